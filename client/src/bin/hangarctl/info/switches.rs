//! The last switch of each alias.

use hangar_client::v1::{SwitchInfo, SwitchOutcome};

use crate::table::{ago, short, table, trimmed};

pub(super) fn switches_table(switches: &[SwitchInfo]) -> String {
    let mut table = table([
        "ALIAS", "FROM", "TO", "STRATEGY", "SWITCH", "WHEN", "REASON",
    ]);
    for switch in switches {
        let when = switch.end_time.as_ref().or(switch.start_time.as_ref());
        table.add_row([
            switch.alias.as_str(),
            &switch.from_model_id,
            &switch.to_model_id,
            short(switch.strategy().as_str_name(), "SWITCH_STRATEGY_"),
            match switch.outcome() {
                SwitchOutcome::Unspecified => "under way",
                outcome => short(outcome.as_str_name(), "SWITCH_OUTCOME_"),
            },
            &ago(when),
            &switch.reason,
        ]);
    }
    trimmed(&table)
}
