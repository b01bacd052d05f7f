//! tcpdump is the oracle for classic BPF: what it compiles filters to, as text (`-d`), as C (`-dd`) and as numbers
//! (`-ddd`), must be the same thing to us, and what it emits must pass our check.

use std::process::Command;

use skep_isa::classic;

/// Filters that together use most of what the compiler can emit.
const FILTERS: [&str; 34] = [
    "",
    "ip",
    "ip6",
    "arp or rarp",
    "tcp",
    "tcp port 80",
    "udp and not port 53",
    "icmp or icmp6",
    "host 192.0.2.1",
    "ip6 host 2001:db8::1",
    "net 198.51.100.0/24 and tcp dst portrange 1000-2000",
    "src net 2001:db8::/32",
    "ether host 02:00:00:00:00:01",
    "ether broadcast or ether multicast",
    "ether proto 0x88cc",
    "vlan 5 and ip",
    "vlan and vlan and tcp",
    "mpls 100",
    "pppoes and ip",
    "len > 100 and len < 1500",
    "greater 1000",
    "inbound",
    "outbound and tcp",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[13] == 2",
    "ip[6:2] & 0x1fff = 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "ip[2:2] - ((ip[0] & 0xf) << 2) > 100",
    "(ip[8] * 3 + 7) / 2 % 5 = ip[9] | 4",
    "ether[0] ^ ether[1] = -ether[2]",
    "ip proto 47 or ip proto 50",
    "ip6 protochain 6",
    "(tcp port 1 or tcp port 2 or tcp port 3) and not host 192.0.2.7",
    "icmp[icmptype] = icmp-echo and ip[1] << ip[0] >> 2 > len",
];

fn tcpdump(mode: &str, filter: &str) -> String {
    let output = Command::new("tcpdump").args(["-y", "EN10MB", mode, filter]).output().unwrap_or_else(|error| {
        panic!("start tcpdump: {error}; install it with: apt-get install tcpdump");
    });
    assert!(output.status.success(), "tcpdump {mode} {filter:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether an instruction does not use `k`: the second operand is the index register, or there is none.
fn has_no_number(code: u16) -> bool {
    matches!(code & 0x0f, 0x0c | 0x0d) || matches!(code, 0x07 | 0x87 | 0x84 | 0x16 | 0x80 | 0x81)
}

#[test]
fn tcpdump_filters_mean_the_same_in_every_form() {
    for filter in FILTERS {
        let (text, initializers, numbers) = (tcpdump("-d", filter), tcpdump("-dd", filter), tcpdump("-ddd", filter));
        let raw = classic::parse_numbers(&numbers).unwrap_or_else(|errors| panic!("{filter}: {errors:?}"));
        assert_eq!(classic::to_numbers(&raw), numbers, "{filter}");
        assert_eq!(classic::parse_numbers(&initializers), Ok(raw.clone()), "{filter}");
        let printed: String = raw.iter().map(|raw| format!("{raw}\n")).collect();
        assert_eq!(printed, initializers, "{filter}");

        let program = classic::decode(&raw).unwrap_or_else(|error| panic!("{filter}: {error}"));
        // libpcap's optimizer leaves numbers behind in instructions that have no use for them.
        let mut clean = raw.clone();
        clean.iter_mut().filter(|raw| has_no_number(raw.code)).for_each(|raw| raw.k = 0);
        assert_eq!(classic::encode(&program), clean, "{filter}");
        // tcpdump fills lines without operand with spaces.
        let theirs: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        assert_eq!(classic::Text(&program).to_string(), theirs, "{filter}");
        assert_eq!(classic::assemble(&text).as_ref(), Ok(&program), "{filter}");
        // Linux takes no jumps back, which the loop of protochain needs: libpcap runs such filters by itself.
        if filter.contains("protochain") {
            let errors = classic::check(&raw).unwrap_err();
            let back = errors.iter().filter(|error| matches!(error.problem, classic::CheckProblem::JumpBack(_)));
            assert!(back.count() == errors.len() && !errors.is_empty(), "{errors:?}");
        } else {
            assert_eq!(classic::check(&raw), Ok(()), "{filter}");
        }
    }
}
