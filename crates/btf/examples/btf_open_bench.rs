//! How long the kernel's BTF takes to open: median, least and most of 50 runs, and the first and later look-ups by name.
//! One line `name value unit` each, read by `make bench`. An argument names another file.

use std::time::{Duration, Instant};

use skep_btf::{Btf, Kind};

const RUNS: usize = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/sys/kernel/btf/vmlinux".to_owned());
    let mut read = Vec::new();
    let mut open = Vec::new();
    let mut first_find = Vec::new();
    let mut find = Vec::new();
    let mut header = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let data = std::fs::read(&path)?;
        read.push(start.elapsed());
        let start = Instant::now();
        let btf = Btf::parse(data)?;
        open.push(start.elapsed());
        let start = Instant::now();
        let found = btf.find("task_struct", Kind::Struct);
        first_find.push(start.elapsed());
        let start = Instant::now();
        let again = btf.find("sock", Kind::Struct);
        find.push(start.elapsed());
        std::hint::black_box((found, again));
    }
    let btf = Btf::parse(std::fs::read(&path)?)?;
    for _ in 0..5 {
        let start = Instant::now();
        let mut text = String::new();
        skep_btf::c_header::write(&btf, &mut text)?;
        header.push(start.elapsed());
        std::hint::black_box(text);
    }
    for (name, times) in [
        ("btf_read", &mut read),
        ("btf_open", &mut open),
        ("btf_first_find", &mut first_find),
        ("btf_find", &mut find),
        ("btf_c_header", &mut header),
    ] {
        times.sort();
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "{name} {:.1} us (least {:.1}, most {:.1})",
            us(times[times.len() / 2]),
            us(times[0]),
            us(times[times.len() - 1])
        );
    }
    Ok(())
}
