//! What the text cases do not say: the table, and faults of programs that no verifier has seen.

use super::HELPERS;
use crate::{Config, Context, Vm};
use skep_abi::ProgramType;

#[test]
fn numbers_and_names_are_the_kernels() {
    assert!(HELPERS.windows(2).all(|pair| pair[0].id < pair[1].id));
    for helper in HELPERS {
        assert_eq!(skep_abi::helpers::by_id(helper.id).map(|known| known.name), Some(helper.name));
    }
}

fn fault(text: &str, context: &mut Context<'_>) -> String {
    let vm = Vm::new(Config::default());
    let slots = skep_isa::encode(&skep_isa::assemble(text).unwrap());
    let program = vm.load_slots("test", ProgramType::Unspec, &slots).unwrap();
    vm.run(&program, context).unwrap_err().to_string()
}

#[test]
fn without_a_packet_they_are_faults() {
    for helper in HELPERS.iter().filter(|helper| helper.name != "bpf_csum_diff") {
        let text = format!("r2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\ncall {}\nexit", helper.id);
        let fault = fault(&text, &mut Context::memory(&mut [0; 8]));
        assert!(fault.contains("this program does not run on a packet"), "{}: {fault}", helper.name);
        assert!(fault.contains(helper.name), "{fault}");
    }
}

#[test]
fn a_helper_wants_its_own_kind_of_packet_and_the_context() {
    let mut xdp = Context::packet_hook(ProgramType::Xdp, None, 100).unwrap();
    let text = fault("r2 = 0\ncall 39\nexit", &mut xdp);
    assert!(text.contains("bpf_skb_pull_data: the packet of this program is not of its kind"), "{text}");
    let text = fault("r1 += 4\nr2 = 0\ncall 44\nexit", &mut xdp);
    assert!(text.contains("is not the context"), "{text}");
    // The packet is there again after a fault.
    assert!(xdp.packet().is_some());
}
