//! What stands on the screen: standard output, standard error and exit code of whole command lines.

mod common;

use common::{histories, replay};

macro_rules! screen {
    ($name:ident, $arguments:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(replay(&histories::all(), $arguments));
        }
    };
}

screen!(completed, "9f3ac101");
screen!(completed_values, "9f3ac101 --values --time utc");
screen!(tutorial, "9f3ac102");
screen!(tutorial_full, "9f3ac102 --full --values");
screen!(tutorial_at_task, "9f3ac102 --at prepare_dataset");
screen!(tutorial_context, "9f3ac102 context");
screen!(failed, "51b00003");
screen!(failed_at_time, "51b00003 --at +1.2s");
screen!(failed_full, "51b00003 --full");
screen!(recovered, "51b00004");
screen!(branches, "51b00005");
screen!(branches_values, "51b00005 --values");
screen!(collision, "51b00006");
screen!(running, "51b00007");
screen!(running_at, "51b00007 --at 99");
screen!(cancelled, "51b00008");
screen!(list, "list --time utc");
screen!(list_failed, "list --status failed --time relative");
screen!(context_value, "9f3ac101 context rows");
screen!(context_at, "9f3ac101 context rows --at extract");
screen!(context_unknown, "9f3ac101 context row");
screen!(verify_ok, "9f3ac101 verify");
screen!(ambiguous, "01935f --time utc");
screen!(unknown, "9f3ac1d2 --time utc");
screen!(no_id, "xyz");
screen!(latest, "@ --time utc --at 0");
screen!(help, "--help");
