//! The switch.

use std::sync::LazyLock;

/// Chooses the mutant: `M017`.
const SWITCH: &str = "RAFTWERK_MUTANT";

static ACTIVE: LazyLock<u32> = LazyLock::new(|| {
    let Ok(name) = std::env::var(SWITCH) else {
        return 0;
    };
    let id = name.strip_prefix('M').and_then(|id| id.parse().ok());
    id.unwrap_or_else(|| panic!("{SWITCH}={name} names no mutant"))
});

/// Whether this mutant is switched on.
pub(crate) fn on(id: u32) -> bool {
    *ACTIVE == id
}
