//! The program `replay`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let code = cloacina_replay::main(std::env::args_os().collect());
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
