//! Timers in map values: `bpf_timer_init(&value->timer, &map, clock)`, a callback that the kernel calls later, start, cancel.
//!
//! The callback is checked as a path of its own from the call of `bpf_timer_set_callback` on: it gets the map, a key and a value,
//! holds nothing, may not sleep, and returns 0. What else can go wrong with timers (no map that holds it any more, a start
//! before the initialisation) the kernel answers with an error when the program runs.

use skep_isa::Reg;

use crate::Code;
use crate::alu::describe;
use crate::env::FieldKind;
use crate::explore::Verifier;
use crate::state::{FuncState, MapId, RegFlags, RegKind, RegState};
use crate::stop::Stop;
use crate::subprog::CallbackKind;

const INIT: u32 = 169;
const SET_CALLBACK: u32 = 170;
const START: u32 = 171;

impl Verifier<'_, '_> {
    /// Helpers 169 to 172; what is true of all helpers was checked before.
    pub(super) fn call_timer_helper(&mut self, id: u32) -> Result<(), Stop> {
        let (map, value) = self.field_argument(Reg::R1, FieldKind::Timer)?;
        match id {
            INIT => {
                let given = *self.read(Reg::R2)?;
                if given.kind != RegKind::MapPtr(map) || given.aux != value.aux {
                    let name = self.env.map(map).map_or("?", |map| map.name());
                    return Err(Stop::reject(
                        Code::MapMismatch,
                        match given.kind {
                            RegKind::MapPtr(_) => "r2 holds another map".to_owned(),
                            _ => format!("r2 holds {}", describe(&given)),
                        },
                    )
                    .title("a timer is initialised with a map that it is not in")
                    .about(Reg::R2)
                    .fact(format!("the timer in r1 is in a value of map `{name}`"))
                    .help("pass the map that the value was looked up in")
                    .kernel("timer pointer in R1 doesn't match map pointer in R2"));
                }
                self.read(Reg::R3)?;
            }
            SET_CALLBACK => self.set_callback(map, &value)?,
            START => {
                self.read(Reg::R2)?;
                self.read(Reg::R3)?;
            }
            _ => {}
        }
        self.finish_call(RegState::unknown());
        Ok(())
    }

    fn set_callback(&mut self, map: MapId, value: &RegState) -> Result<(), Stop> {
        let callback = *self.read(Reg::R2)?;
        let RegKind::Func(subprog) = callback.kind else {
            return Err(Stop::reject(Code::Callback, format!("r2 holds {}", describe(&callback)))
                .title("a function of the program is wanted as callback")
                .about(Reg::R2)
                .help("pass the name of a static function")
                .kernel("R2 type=? expected=func"));
        };
        let aux = value.aux;
        self.push_callback(subprog, CallbackKind::Async { sleepable: false }, |callee| {
            timer_arguments(callee, map, aux);
        })
    }
}

/// `int callback(void *map, void *key, void *value)`, which returns 0.
fn timer_arguments(callee: &mut FuncState, map: MapId, aux: u32) {
    let pointer = |kind| RegState { aux, ..RegState::pointer(kind, RegFlags::NONE) };
    callee.regs[1] = pointer(RegKind::MapPtr(map));
    callee.regs[2] = RegState::pointer(RegKind::MapKey(map), RegFlags::NONE);
    callee.regs[3] = pointer(RegKind::MapValue(map));
    callee.callback_range = (0, 0);
}
