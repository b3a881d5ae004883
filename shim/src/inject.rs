//! Panics on demand, for the tests: `GGPAGER_INJECT=munmap,read` makes the hooks of these names panic
//! at every call, before they decide. Debug builds alone know it; in a release build nothing is left
//! of it.

#[cfg(debug_assertions)]
mod enabled {
    use std::sync::OnceLock;

    static HOOKS: OnceLock<String> = OnceLock::new();

    /// Reads the variable.
    pub fn arm() {
        if let Ok(hooks) = std::env::var("GGPAGER_INJECT") {
            let _ = HOOKS.set(hooks);
        }
    }

    /// Panics when the hook `name` is meant to.
    pub fn point(name: &str) {
        if let Some(hooks) = HOOKS.get() {
            assert!(!hooks.split(',').any(|hook| hook == name), "injected into {name}");
        }
    }
}

#[cfg(not(debug_assertions))]
mod enabled {
    /// Nothing in a release build.
    pub fn arm() {}

    /// Nothing in a release build.
    #[inline(always)]
    pub fn point(_name: &str) {}
}

pub use enabled::{arm, point};
