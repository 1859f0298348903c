//! The environment, which has credentials and endpoints of services.

use std::sync::Arc;

/// Looks up a variable of the environment.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Returns a variable that is set and not empty.
pub(super) fn given(variables: &Variables, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| variables(name).filter(|value| !value.is_empty()))
}
