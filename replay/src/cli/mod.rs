//! The command line of `replay`. It parses arguments and prints; everything it shows comes from the library.

pub mod arguments;
mod columns;
pub mod completion;
mod context_view;
mod diff_view;
mod doctor_view;
mod execution_view;
mod explain_view;
mod export_view;
mod failure;
mod follow;
mod full_view;
mod graph_view;
mod header;
mod history_view;
mod list_view;
mod notes;
pub mod paging;
mod progress;
mod proof_view;
mod report_view;
mod run;
mod schedule_view;
mod screen;
#[cfg(feature = "serve")]
mod serve_view;
mod state_view;
mod stepper;
mod style;
pub mod surroundings;
mod target;
pub mod text;
mod verify_all_view;
mod verify_view;
mod why_view;

pub use failure::code;
pub use run::run;
