//! The environment, in which credentials and addresses of services are.

use std::sync::Arc;

/// Looks a variable of the environment up.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A variable that is set to something.
pub(super) fn given(variables: &Variables, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| variables(name).filter(|value| !value.is_empty()))
}
