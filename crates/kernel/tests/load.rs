//! Whole objects, compiled from C here, loaded into the running kernel and run there.

mod support;

use skep_kernel::load::{LoadError, LoadOptions, Loaded, Selection, load};
use skep_kernel::{Class, LogLevel, Map, TestInput, TestOutput, Update};
use skep_object::ObjectSpec;
use std::path::PathBuf;

fn loaded(text: &str) -> (ObjectSpec, Loaded) {
    let spec = support::spec(text);
    let loaded = load(&spec, &LoadOptions::default()).unwrap_or_else(|e| panic!("{e}\n{}", log_of(&e)));
    (spec, loaded)
}

fn log_of(error: &LoadError) -> &str {
    match error {
        LoadError::Program(refusal) => &refusal.log,
        _ => "",
    }
}

fn refused(text: &str) -> LoadError {
    load(&support::spec(text), &LoadOptions::default()).expect_err("an error")
}

/// Runs a program over an Ethernet frame of zeros.
fn run(loaded: &Loaded, program: &str) -> TestOutput {
    let packet = [0u8; 64];
    let input = TestInput { data: &packet, data_out_len: Some(256), ..TestInput::default() };
    loaded.program_named(program).expect("the program").test_run(&input).expect("a test run")
}

#[test]
fn globals_maps_and_subprograms() {
    if !support::root("globals_maps_and_subprograms") {
        return;
    }
    let (spec, loaded) = loaded(
        r#"
        struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); } seen SEC(".maps");
        const volatile __u32 step = 3;
        __u64 total = 5;
        __u64 zeroed;
        static __noinline int twice(int x) { return x * 2; }
        SEC("xdp") int count(struct xdp_md *ctx)
        {
            __u32 key = twice(step);
            __u64 one = 1, *v = bpf_map_lookup_elem(&seen, &key);
            if (v) *v += 1; else bpf_map_update_elem(&seen, &key, &one, 0);
            total += step;
            zeroed++;
            return XDP_PASS;
        }
        "#,
    );
    for _ in 0..3 {
        assert_eq!(run(&loaded, "count").value, 2);
    }
    let seen = loaded.map_named("seen").expect("seen");
    assert_eq!(seen.lookup(&6u32.to_ne_bytes()).expect("lookup"), Some(3u64.to_ne_bytes().to_vec()));
    let value = |name: &str, var: &str| {
        let (index, map) = spec.map(name).expect("the section");
        let var = map.vars.iter().find(|v| v.name == var).expect("the variable");
        let data = loaded.map(index).expect("a map").lookup(&[0; 4]).expect("lookup").expect("there");
        u64::from_ne_bytes(data[var.offset as usize..][..8].try_into().expect("8 bytes"))
    };
    assert_eq!(value(".data", "total"), 14);
    assert_eq!(value(".bss", "zeroed"), 3);
    let constants = loaded.map_named(".rodata").expect(".rodata");
    assert!(constants.update(&[0; 4], &vec![0; constants.value_len()], Update::Any).is_err(), "frozen");

    // What the kernel tells of it, compared with bpftool.
    let program = loaded.program_named("count").expect("count");
    let info = program.info().expect("info");
    let out = std::process::Command::new("bpftool")
        .args(["-j", "prog", "show", "id", &info.id.to_string()])
        .output()
        .expect("bpftool");
    let show: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(show["name"], info.name.as_str());
    assert_eq!(show["bytes_xlated"], info.xlated_len);
    assert_eq!(show["bytes_jited"], info.jited_len);
    assert_eq!(show["btf_id"], info.btf_id);
    let tag: String = info.tag.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(show["tag"], tag.as_str());
    let ids: Vec<u32> =
        show["map_ids"].as_array().expect("ids").iter().map(|i| i.as_u64().expect("id") as u32).collect();
    assert_eq!(ids, info.map_ids);
    assert_eq!(program.xlated().expect("xlated").len(), info.xlated_len as usize / 8);
    assert_eq!(program.jited().expect("jited").len(), info.jited_len as usize);
    let funcs = program.funcs().expect("funcs");
    assert_eq!(funcs.len(), 2);
    assert!(!program.lines().expect("lines").is_empty());
    assert!(info.verified_insns > 0 && info.gpl_compatible);
    assert_eq!(program.full_name().expect("a name"), "count");
}

#[test]
fn the_kernel_keeps_types() {
    if !support::root("the_kernel_keeps_types") {
        return;
    }
    let (_, loaded) = loaded(
        r#"
        struct flow { __u32 from, to; };
        struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, struct flow); __type(value, __u64); } flows SEC(".maps");
        SEC("xdp") int a_name_that_is_longer_than_fifteen(struct xdp_md *ctx) { return bpf_map_lookup_elem(&flows, &(struct flow){}) ? 1 : 2; }
        "#,
    );
    let map = loaded.map_named("flows").expect("flows").info().expect("info");
    assert_ne!(map.btf_id, 0);
    let btf = skep_kernel::BtfObject::from_id(map.btf_id).expect("open").read().expect("read");
    assert_eq!(btf.type_name(skep_btf::TypeId(map.btf_key_type_id)), "struct flow");
    let program = loaded.programs().next().expect("one");
    let again = skep_kernel::Program::from_id(program.id().expect("id")).expect("open");
    assert_eq!(again.name(), "a_name_that_is_");
    assert_eq!(again.full_name().expect("a name"), "a_name_that_is_longer_than_fifteen");
}

#[test]
fn kernel_configuration_and_symbols() {
    if !support::root("kernel_configuration_and_symbols") {
        return;
    }
    let (_, loaded) = loaded(
        r#"
        extern int LINUX_KERNEL_VERSION __kconfig;
        extern unsigned long CONFIG_HZ __kconfig __weak;
        extern _Bool CONFIG_BPF_SYSCALL __kconfig;
        extern int CONFIG_NO_SUCH_THING __kconfig __weak;
        extern const void bpf_prog_put __ksym;
        extern const void no_such_symbol_anywhere __ksym __weak;
        __u64 version, hz, has_bpf, nothing, address, missing;
        SEC("xdp") int look(struct xdp_md *ctx)
        {
            version = LINUX_KERNEL_VERSION; hz = CONFIG_HZ; has_bpf = CONFIG_BPF_SYSCALL;
            nothing = CONFIG_NO_SUCH_THING; address = (__u64)&bpf_prog_put; missing = (__u64)&no_such_symbol_anywhere;
            return 2;
        }
        "#,
    );
    run(&loaded, "look");
    let bss = loaded.map_named(".bss").expect(".bss").lookup(&[0; 4]).expect("lookup").expect("there");
    let values: Vec<u64> = bss.chunks_exact(8).map(|c| u64::from_ne_bytes(c.try_into().expect("8"))).collect();
    assert!(values.contains(&u64::from(skep_kernel::kconfig::kernel_version_code().expect("a version"))));
    assert!(values.contains(&1), "CONFIG_BPF_SYSCALL");
    let address = skep_kernel::kallsyms::addresses(&["bpf_prog_put"]).expect("kallsyms")["bpf_prog_put"];
    assert!(values.contains(&address));
    assert_eq!(values.iter().filter(|v| **v == 0).count(), 2, "{values:?}");
}

#[test]
fn names_that_do_not_exist_have_near_ones() {
    if !support::root("names_that_do_not_exist") {
        return;
    }
    for (text, expected) in [
        (
            r#"SEC("tp_btf/sched_swich") int p(void *ctx) { return 0; }"#,
            "program `p`: there is no tracepoint `sched_swich` (",
        ),
        (r#"SEC("iter/taks") int p(void *ctx) { return 0; }"#, "program `p`: there is no iterator `taks` ("),
        (
            r#"SEC("fentry/do_unlinkatt") int p(void *ctx) { return 0; }"#,
            "program `p`: there is no kernel function `do_unlinkatt` (",
        ),
        (
            r#"extern int bpf_no_such_kfunc(void) __ksym; SEC("xdp") int p(struct xdp_md *ctx) { return bpf_no_such_kfunc(); }"#,
            "extern `bpf_no_such_kfunc`: there is no kernel function `bpf_no_such_kfunc`",
        ),
        (
            r#"extern const int bpf_no_such_var __ksym; SEC("xdp") int p(struct xdp_md *ctx) { return bpf_no_such_var; }"#,
            "extern `bpf_no_such_var`: there is no kernel variable with a type `bpf_no_such_var`",
        ),
        (
            r#"extern int CONFIG_NO_SUCH __kconfig; SEC("xdp") int p(struct xdp_md *ctx) { return CONFIG_NO_SUCH; }"#,
            "extern `CONFIG_NO_SUCH`: there is no setting of this kernel `CONFIG_NO_SUCH`",
        ),
    ] {
        let error = refused(text);
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.class(), Class::NotSo, "{error}");
    }
    let error = refused(r#"SEC("tp_btf/sched_swich") int p(void *ctx) { return 0; }"#);
    assert!(error.to_string().contains("sched_switch"), "{error}");
}

#[test]
fn kernel_functions_and_variables() {
    if !support::root("kernel_functions_and_variables") {
        return;
    }
    let (_, loaded) = loaded(
        r#"
        struct task_struct {} __attribute__((preserve_access_index));
        extern struct task_struct *bpf_task_from_pid(int pid) __ksym;
        extern void bpf_task_release(struct task_struct *p) __ksym;
        extern int bpf_made_up_function(int) __ksym __weak;
        extern const int bpf_prog_active __ksym __weak;
        int found;
        SEC("tp_btf/sched_process_hang") int walk(void *ctx)
        {
            struct task_struct *t = bpf_task_from_pid(1);
            if (t) { found = 1; bpf_task_release(t); }
            if (&bpf_made_up_function) return bpf_made_up_function(1);
            return 0;
        }
        "#,
    );
    assert_eq!(loaded.programs().count(), 1);
}

/// A symbol that the kernel has once, and one that it has at several addresses.
fn twice_in_kallsyms() -> Option<String> {
    let text = std::fs::read_to_string("/proc/kallsyms").expect("kallsyms");
    let mut seen = std::collections::HashMap::new();
    let symbol = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (address, _, name) = (words.next()?.to_owned(), words.next()?, words.next()?.to_owned());
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then_some((name, address))
    };
    text.lines().filter_map(symbol).find_map(|(name, address)| {
        let first = seen.entry(name.clone()).or_insert_with(|| address.clone());
        (*first != address).then_some(name)
    })
}

#[test]
fn a_symbol_with_two_addresses_is_refused() {
    if !support::root("a_symbol_with_two_addresses") {
        return;
    }
    let name = twice_in_kallsyms().expect("every kernel has static functions of one name");
    for weak in ["", "__weak"] {
        let error = refused(&format!(
            r#"
            extern const void {name} __ksym {weak};
            __u64 address;
            SEC("xdp") int p(struct xdp_md *ctx) {{ address = (__u64)&{name}; return 2; }}
            "#
        ));
        let start =
            format!("extern `{name}`: look up kernel symbol `{name}`: it is ambiguous: the kernel has one at 0x");
        assert!(error.to_string().starts_with(&start) && error.to_string().contains(" and another at 0x"), "{error}");
        assert_eq!(error.class(), Class::NotSo);
    }
}

#[test]
fn variables_and_symbols_have_no_flavours() {
    if !support::root("variables_and_symbols_have_no_flavours") {
        return;
    }
    // Every kernel has this one.
    let (_, loaded) = loaded(
        r#"
        extern const void __start___param __ksym;
        extern const void __start __ksym __weak;
        __u64 address, none = 7;
        SEC("xdp") int look(struct xdp_md *ctx)
        { address = (__u64)&__start___param; none = (__u64)&__start; return 2; }
        "#,
    );
    run(&loaded, "look");
    let address = skep_kernel::kallsyms::addresses(&["__start___param"]).expect("kallsyms")["__start___param"];
    let value = |map: &str| loaded.map_named(map).expect("a map").lookup(&[0; 4]).expect("lookup").expect("there");
    assert_eq!(value(".bss"), address.to_ne_bytes());
    assert_eq!(value(".data"), [0; 8]);
    let error = refused(
        r#"extern const int bpf_prog_active___old __ksym; SEC("xdp") int p(struct xdp_md *ctx) { return bpf_prog_active___old; }"#,
    );
    assert!(error.to_string().contains("`bpf_prog_active___old`"), "{error}");
}

#[test]
fn kernel_functions_have_the_declared_prototype() {
    if !support::root("kernel_functions_have_the_declared_prototype") {
        return;
    }
    let error = refused(
        r#"
        extern void bpf_rcu_read_lock(int a, int b) __ksym;
        SEC("tp_btf/sched_process_hang") int p(void *ctx) { bpf_rcu_read_lock(1, 2); return 0; }
        "#,
    );
    assert_eq!(
        error.to_string(),
        "extern `bpf_rcu_read_lock`: use kernel function `bpf_rcu_read_lock`: it is declared as `void \
         bpf_rcu_read_lock(int _, int _)`, but in the running kernel it is `void bpf_rcu_read_lock(void)`; declare it so"
    );
    assert_eq!(error.class(), Class::NotSo);
    // As with libbpf, a struct that is only declared is no struct; but the reason is said.
    let error = refused(
        r#"
        struct task_struct;
        extern void bpf_task_release(struct task_struct *p) __ksym;
        SEC("tp_btf/sched_process_hang") int p(void *ctx) { bpf_task_release(0); return 0; }
        "#,
    );
    assert!(
        error.to_string().ends_with("; define `struct task_struct`: one that is only declared is not compared"),
        "{error}"
    );
    // Flavours of one function: of those that are weak the one that fits is there.
    let (_, loaded) = loaded(
        r#"
        extern void bpf_rcu_read_lock___old(int a, int b) __ksym __weak;
        extern void bpf_rcu_read_lock___new(void) __ksym __weak;
        extern void bpf_rcu_read_unlock(void) __ksym;
        SEC("tp_btf/sched_process_hang") int p(void *ctx)
        {
            if (&bpf_rcu_read_lock___old) { bpf_rcu_read_lock___old(1, 2); return 1; }
            if (&bpf_rcu_read_lock___new) { bpf_rcu_read_lock___new(); bpf_rcu_read_unlock(); }
            return 0;
        }
        "#,
    );
    let insns = loaded.program_named("p").expect("p").xlated().expect("instructions");
    assert!(!insns.iter().any(|i| i.imm == 0x0bad_2310), "the guarded call is gone");
}

#[test]
fn kernel_variables_have_the_declared_type() {
    if !support::root("kernel_variables_have_the_declared_type") {
        return;
    }
    for weak in ["", "__weak"] {
        let error = refused(&format!(
            r#"
            struct rq;
            extern const int runqueues __ksym {weak};
            SEC("tp_btf/sched_process_hang") int p(void *ctx) {{ return runqueues; }}
            "#
        ));
        let said = "extern `runqueues`: use kernel variable `runqueues`: it is declared as `const int runqueues`, but in the \
                    running kernel it is `struct rq runqueues`; declare it so";
        assert_eq!(error.to_string(), said);
    }
}

#[test]
fn reaching_what_is_missing_is_refused_with_its_name() {
    if !support::root("reaching_what_is_missing") {
        return;
    }
    let error = refused(
        r#"
        extern int bpf_made_up_function(int) __ksym __weak;
        SEC("tp_btf/sched_process_hang") int p(void *ctx) { return bpf_made_up_function(1); }
        "#,
    );
    let LoadError::Program(refusal) = &error else { panic!("{error}") };
    assert_eq!(
        refusal.message,
        "reached a relocation that could not be satisfied: kernel function bpf_made_up_function does not exist here"
    );
    assert!(refusal.advice().is_some_and(|a| a.fix.contains("bpf_ksym_exists")));
}

#[test]
fn maps_of_maps_and_tail_calls() {
    if !support::root("maps_of_maps_and_tail_calls") {
        return;
    }
    let (_, loaded) = loaded(
        r#"
        struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); } first SEC(".maps"), second SEC(".maps");
        struct {
            __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 4); __type(key, __u32);
            __array(values, struct inner);
        } outer SEC(".maps") = { .values = { [1] = &first, [2] = &second } };
        SEC("xdp") int last(struct xdp_md *ctx)
        {
            __u32 two = 2, zero = 0, *v;
            void *map = bpf_map_lookup_elem(&outer, &two);
            if (!map) return 0;
            v = bpf_map_lookup_elem(map, &zero);
            return v ? *v : 0;
        }
        struct {
            __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __uint(key_size, 4);
            __array(values, int (void *));
        } jumps SEC(".maps") = { .values = { [1] = (void *)&last } };
        SEC("xdp") int start(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 1); return 77; }
        "#,
    );
    let second = loaded.map_named("second").expect("second");
    second.update(&[0; 4], &41u32.to_ne_bytes(), Update::Any).expect("update");
    assert_eq!(run(&loaded, "start").value, 41);
}

#[test]
fn buffers_get_sizes_that_the_kernel_takes() {
    if !support::root("buffers_get_sizes") {
        return;
    }
    let (_, loaded) = loaded(
        r#"
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 5000); } ring SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
        SEC("xdp") int p(struct xdp_md *ctx)
        { int x = 1; bpf_ringbuf_output(&ring, &x, 4, 0); bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &x, 4); return 2; }
        "#,
    );
    assert_eq!(loaded.map_named("ring").expect("ring").max_entries(), 8192);
    let cpus = skep_kernel::cpu::possible().expect("cpus") as u32;
    assert_eq!(loaded.map_named("perf").expect("perf").max_entries(), cpus);
}

#[test]
fn pins_are_adopted_and_taken_back() {
    if !support::root("pins_are_adopted") {
        return;
    }
    let root = PathBuf::from(format!("/sys/fs/bpf/skep_load_{}", std::process::id()));
    let options = LoadOptions { pin_root: root.clone(), ..LoadOptions::default() };
    let text = |entries: u32, body: &str| {
        format!(
            r#"
            struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, {entries}); __type(key, __u32); __type(value, __u32);
                     __uint(pinning, LIBBPF_PIN_BY_NAME); }} kept SEC(".maps");
            SEC("xdp") int p(struct xdp_md *ctx) {{ __u32 k = 0; __u32 *v = bpf_map_lookup_elem(&kept, &k); {body} }}
            "#
        )
    };
    let outcome = std::panic::catch_unwind(|| {
        // Refused: the pin that it made is gone again.
        let broken = support::spec(&text(2, "return *(int *)((long)ctx + 128);"));
        load(&broken, &options).expect_err("refused");
        assert!(!root.join("kept").exists());
        let good = support::spec(&text(2, "return v ? (int)*v : 0;"));
        // Loaded, but what came behind it failed: gone as well.
        drop(load(&good, &options).expect("loads"));
        assert!(!root.join("kept").exists());
        let mut first = load(&good, &options).expect("loads");
        first.keep_pins();
        first.map_named("kept").expect("kept").update(&[0; 4], &[5, 0, 0, 0], Update::Any).expect("update");
        drop(first);
        let second = load(&good, &options).expect("loads again");
        let kept = second.map_named("kept").expect("kept");
        assert_eq!(kept.lookup(&[0; 4]).expect("lookup"), Some(vec![5, 0, 0, 0]));
        // A refusal does not take back what was there before.
        load(&broken, &options).expect_err("refused");
        assert!(root.join("kept").exists());
        let other = support::spec(&text(3, "return v ? (int)*v : 0;"));
        let error = load(&other, &options).expect_err("differs");
        assert!(error.to_string().contains("has max_entries 2, not 3"), "{error}");
    });
    let _ = skep_kernel::pin::unpin(&root.join("kept"));
    let _ = std::fs::remove_dir(&root);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// The name of a map is an object's word: it names a pin, not a path.
#[test]
fn a_map_name_that_is_a_path_is_refused() {
    if !support::root("a_map_name_that_is_a_path") {
        return;
    }
    let mut spec = support::spec(
        r#"
        struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32);
                 __uint(pinning, LIBBPF_PIN_BY_NAME); } skep_path SEC(".maps");
        SEC("xdp") int p(struct xdp_md *ctx) { __u32 k = 0; return bpf_map_lookup_elem(&skep_path, &k) ? 1 : 2; }
        "#,
    );
    let dir = tempfile::tempdir().expect("a temporary directory");
    let outside = dir.path().join("x/m").display().to_string();
    for name in [outside.as_str(), "/sys/fs/bpf/skep_path", "../bpf/skep_path", "a/b", "..", ".", ""] {
        spec.maps[0].name = name.to_owned();
        let error = load(&spec, &LoadOptions::default()).expect_err("refused");
        assert!(error.to_string().contains("its name is no file name"), "{name}: {error}");
        assert_eq!(error.class(), Class::NotSo);
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0);
    assert!(!PathBuf::from("/sys/fs/bpf/skep_path").exists());
}

#[test]
fn selection() {
    if !support::root("selection") {
        return;
    }
    let spec = support::spec(
        r#"
        SEC("xdp") int one(struct xdp_md *ctx) { return 1; }
        SEC("?xdp") int two(struct xdp_md *ctx) { return 2; }
        "#,
    );
    let names = |options: &LoadOptions| -> Vec<String> {
        load(&spec, options).expect("loads").programs().map(|p| p.name().to_owned()).collect()
    };
    assert_eq!(names(&LoadOptions::default()), ["one"]);
    let named = |name: &str| LoadOptions { programs: Selection::Named(vec![name.into()]), ..LoadOptions::default() };
    assert_eq!(names(&named("two")), ["two"]);
    let error = load(&spec, &named("tow")).expect_err("no such program");
    assert!(error.to_string().contains("is it `two`?"), "{error}");
}

#[test]
fn a_map_can_be_given() {
    if !support::root("a_map_can_be_given") {
        return;
    }
    let spec = support::spec(
        r#"
        struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); } shared SEC(".maps");
        SEC("xdp") int p(struct xdp_md *ctx) { __u32 k = 0; __u32 *v = bpf_map_lookup_elem(&shared, &k); return v ? *v : 0; }
        "#,
    );
    let given = Map::create(&skep_kernel::MapParams::new("given", skep_abi::MapType::Array, 4, 4, 1)).expect("a map");
    given.update(&[0; 4], &33u32.to_ne_bytes(), Update::Any).expect("update");
    let mut options = LoadOptions::default();
    options.reuse.insert("shared".into(), given);
    let loaded = load(&spec, &options).expect("loads");
    assert_eq!(run(&loaded, "p").value, 33);
}

#[test]
fn logs_on_request() {
    if !support::root("logs_on_request") {
        return;
    }
    let spec = support::spec(r#"SEC("xdp") int p(struct xdp_md *ctx) { return ctx->rx_queue_index ? 1 : 2; }"#);
    let with = |log_level| load(&spec, &LoadOptions { log_level, ..LoadOptions::default() }).expect("loads");
    assert_eq!(with(LogLevel::None).program_named("p").expect("p").log(), "");
    let stats = with(LogLevel::Stats);
    let stats = skep_kernel::log::Stats::parse(stats.program_named("p").expect("p").log()).expect("counts");
    assert!(stats.processed_insns >= 4 && stats.limit == 1_000_000 && stats.time_us.is_some(), "{stats:?}");
    assert!(with(LogLevel::Level2).program_named("p").expect("p").log().contains("exit"));
}

/// Verified one instruction after the other, each of which is a line of the log.
fn long_loop(count: u32) -> ObjectSpec {
    support::spec(&format!(
        r#"
        SEC("xdp") int p(struct xdp_md *ctx)
        {{
            __u64 x = 0;
            for (__u64 i = 0; i < {count}; i++) asm volatile("%0 ^= %1" : "+r"(x) : "r"(i));
            return x & 1 ? 1 : 2;
        }}
        "#
    ))
}

#[test]
fn a_long_log_of_an_accepted_program() {
    if !support::root("a_long_log_of_an_accepted_program") {
        return;
    }
    let logged = |level, count| {
        let options = LoadOptions { log_level: level, ..LoadOptions::default() };
        let loaded = load(&long_loop(count), &options).expect("accepted, with a log or without");
        assert!(loaded.warnings().is_empty(), "{:?}", loaded.warnings());
        let program = loaded.program_named("p").expect("p");
        assert!(!program.log_is_cut());
        program.log().to_owned()
    };
    let all = logged(LogLevel::Level2, 10_000);
    assert!(all.len() > 16 << 20, "{} bytes", all.len());
    // What the verifier takes back in the end it needs room for all the same.
    let counts = logged(LogLevel::Level1, 150_000);
    assert!(counts.starts_with("processed "), "{} bytes", counts.len());
}

#[test]
fn a_program_that_is_too_long_is_refused_with_the_end_of_its_log() {
    if !support::root("a_program_that_is_too_long") {
        return;
    }
    let error = load(&long_loop(1_000_000), &LoadOptions::default()).expect_err("refused");
    let LoadError::Program(refusal) = &error else { panic!("{error}") };
    assert_eq!(refusal.errno.0, libc::E2BIG, "{error}");
    assert!(refusal.message.contains("BPF program is too large"), "{error}");
    assert!(refusal.log.len() <= 1 << 20, "{} bytes", refusal.log.len());
}

#[test]
fn run_time_is_counted() {
    if !support::root("run_time_is_counted") {
        return;
    }
    let (_, loaded) = loaded(r#"SEC("xdp") int p(struct xdp_md *ctx) { return bpf_get_prandom_u32() & 1; }"#);
    let program = loaded.program_named("p").expect("p");
    let _counting = skep_kernel::stats::enable().expect("statistics");
    let before = skep_kernel::stats::Usage::of(program).expect("usage");
    let packet = [0u8; 64];
    let out = program.test_run(&TestInput { data: &packet, repeat: 1000, ..TestInput::default() }).expect("a test run");
    assert!(out.duration_ns < 1_000_000);
    let spent = skep_kernel::stats::Usage::of(program).expect("usage").since(&before);
    assert_eq!(spent.run_count, 1000);
    assert!(spent.mean_ns() > 0);
}

/// A test run of four thousand million repetitions can be stopped. The test runs itself again as the process that a signal is
/// sent to: one that stops and goes on, which no handler and no restart of the call can hide.
#[test]
fn a_signal_ends_a_test_run() {
    if !support::root("a_signal_ends_a_test_run") {
        return;
    }
    const CHILD: &str = "SKEP_TEST_REPEAT";
    if std::env::var_os(CHILD).is_some() {
        let (_, loaded) = loaded(r#"SEC("xdp") int p(struct xdp_md *ctx) { return bpf_get_prandom_u32() & 1; }"#);
        println!("READY");
        let packet = [0u8; 64];
        let input = TestInput { data: &packet, repeat: u32::MAX, ..TestInput::default() };
        let error = loaded.program_named("p").expect("p").test_run(&input).expect_err("a signal");
        println!("SAID {:?} {error}", error.errno());
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_signal_ends_a_test_run", "--nocapture"])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("stdout")));
    lines.find(|l| l.as_ref().expect("a line").contains("READY")).expect("the child is ready").expect("a line");
    let send = |signal: &str| {
        std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
    };
    // It says that it is ready just before the run.
    std::thread::sleep(std::time::Duration::from_millis(300));
    send("-STOP");
    std::thread::sleep(std::time::Duration::from_millis(100));
    send("-CONT");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while child.try_wait().expect("wait").is_none() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let ended = child.try_wait().expect("wait").is_some();
    let _ = child.kill();
    child.wait().expect("wait");
    assert!(ended, "the run goes on");
    let said = lines.find_map(|l| l.ok().filter(|l| l.contains("SAID"))).expect("an error");
    assert!(said.contains("SAID Some(EINTR)") && said.contains("a signal ended it"), "{said}");
}

#[test]
fn sections_without_a_meaning() {
    if !support::root("sections_without_a_meaning") {
        return;
    }
    let error = refused(r#"SEC("tp_btf") int p(void *ctx) { return 0; }"#);
    assert!(error.to_string().contains("names no tracepoint"), "{error}");
    let error = refused(r#"SEC("freplace/main") int p(void *ctx) { return 0; }"#);
    assert_eq!(error.class(), Class::NotPermittedOrUnsupported, "{error}");
}

#[test]
fn lists_what_is_loaded() {
    if !support::root("lists_what_is_loaded") {
        return;
    }
    let (_, loaded) = loaded(r#"SEC("raw_tp/sched_process_hang") int p(void *ctx) { return 0; }"#);
    let program = loaded.program_named("p").expect("p");
    let id = program.id().expect("id");
    let listed = skep_kernel::inspect::programs().expect("list");
    assert!(listed.iter().any(|p| p.id == id && p.name == "p"));
    let spec = support::spec(r#"SEC("raw_tp/sched_process_hang") int p(void *ctx) { return 0; }"#);
    let links = skep_kernel::attach::attach(program, &spec.programs[0].hook, &Default::default()).expect("attaches");
    let found = skep_kernel::inspect::links().expect("list");
    let ours = found.iter().find(|l| l.program_id == id).expect("the link");
    let wanted = skep_kernel::inspect::LinkPlace::RawTracepoint { name: "sched_process_hang".into() };
    assert_eq!(ours.place, wanted);
    let owners = skep_kernel::inspect::owners();
    assert!(owners.programs[&id].iter().any(|o| o.pid == std::process::id()));
    assert!(owners.links[&ours.id].iter().any(|o| o.pid == std::process::id()));
    drop(links);
    assert!(!skep_kernel::inspect::links().expect("list").iter().any(|l| l.program_id == id));
}

/// A process that loads, attaches and is killed leaves nothing. The test runs itself again as that process.
#[test]
fn nothing_stays_after_a_kill() {
    if !support::root("nothing_stays_after_a_kill") {
        return;
    }
    const CHILD: &str = "SKEP_TEST_CHILD";
    let text = r#"
        struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); } kill_map SEC(".maps");
        SEC("raw_tp/sched_process_hang") int kill_me(void *ctx) { __u32 k = 0; return bpf_map_lookup_elem(&kill_map, &k) != 0; }
    "#;
    if std::env::var_os(CHILD).is_some() {
        let (spec, loaded) = loaded(text);
        let program = loaded.program_named("kill_me").expect("kill_me");
        let _links =
            skep_kernel::attach::attach(program, &spec.programs[0].hook, &Default::default()).expect("attaches");
        println!("READY {}", program.id().expect("id"));
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "nothing_stays_after_a_kill", "--nocapture"])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("stdout")));
    let id: u32 = lines
        .find_map(|l| l.expect("a line").split_once("READY ").map(|(_, id)| id.trim().parse().expect("an id")))
        .expect("the child is ready");
    assert!(skep_kernel::inspect::links().expect("list").iter().any(|l| l.program_id == id));
    child.kill().expect("kill");
    child.wait().expect("wait");
    // The kernel lets go of programs after a grace period.
    let gone = || {
        !skep_kernel::inspect::programs().expect("list").iter().any(|p| p.id == id)
            && !skep_kernel::inspect::maps().expect("list").iter().any(|m| m.name == "kill_map")
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !gone() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(gone(), "program {id} or its map is still there");
    assert!(!skep_kernel::inspect::links().expect("list").iter().any(|l| l.program_id == id));
}

/// A process without rights is told which, and how to get them. The test runs itself again as that process.
#[test]
fn without_rights() {
    if !support::root("without_rights") && std::env::var_os("SKEP_TEST_OBJECT").is_none() {
        return;
    }
    if let Some(path) = std::env::var_os("SKEP_TEST_OBJECT") {
        let spec = ObjectSpec::parse("case", &std::fs::read(path).expect("the object")).expect("an object");
        let error = load(&spec, &LoadOptions::default()).expect_err("not permitted");
        println!("CLASS {:?} ERROR {error}", error.class());
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let place = |name: &str| dir.path().join(name);
    std::fs::write(place("case.o"), support::compile_text(r#"SEC("xdp") int p(struct xdp_md *ctx) { return 2; }"#))
        .expect("write");
    std::fs::copy(std::env::current_exe().expect("this test"), place("test")).expect("copy");
    let out = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(place("test"))
        .args(["--exact", "without_rights", "--nocapture"])
        .env("SKEP_TEST_OBJECT", place("case.o"))
        .output()
        .expect("setpriv");
    let text = String::from_utf8_lossy(&out.stdout);
    let said = text.lines().find(|l| l.contains("CLASS")).unwrap_or_else(|| panic!("{out:?}"));
    assert!(said.contains("CLASS NotPermittedOrUnsupported"), "{said}");
    assert!(said.contains("not permitted: this process has no CAP_BPF"), "{said}");
    assert!(said.contains("run as root (sudo)") && !said.contains("memlock"), "{said}");
}
