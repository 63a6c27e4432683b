//! Staged files that no session owns.

use std::path::Path;

use crate::mount::staging;

/// What to tell of staged files in a state folder that no session was found for; none if there are none.
pub fn set_aside_note(state: &Path) -> Option<String> {
    let kept = staging::set_aside(state);
    let named: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
    (!named.is_empty()).then(|| {
        format!(
            "staged files that belong to no known session were moved to {}; copy what you need from tree/ \
                there, then delete it",
            named.join(", ")
        )
    })
}
