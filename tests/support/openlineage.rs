//! Holds run events of OpenLineage against the rules of the specification.

use boon::{Compiler, Schemas};
use serde_json::Value;

const RULES: &str = include_str!("../data/openlineage/run-event-2-0-2.json");
const AT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json";

/// Whether an event is one of the specification's; if not, what is wrong with it.
pub fn check(event: &Value) -> Result<(), String> {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource(AT, serde_json::from_str(RULES).unwrap()).unwrap();
    let rules = compiler.compile(AT, &mut schemas).unwrap();
    schemas.validate(event, rules).map_err(|e| format!("{e:#}\n{event:#}"))
}
