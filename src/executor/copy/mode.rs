//! Parses and applies `--chmod`: an octal mode, or symbolic changes as in chmod(1), without a umask.
//!
//! The symbols mean what they mean in BSD's setmode(3), which BuildKit uses: `t`, and `s` for others only, have no
//! effect; `=` clears the set-id bit of the classes it names; `X` looks at the mode before any change.

const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;

/// A `--chmod` that is not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid chmod parameter {text:?}: it must be octal between 0 and 07777, or symbolic as in u=rwX,go=rX")]
pub struct ModeError {
    /// The parameter.
    pub text: String,
}

/// A change of modes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// Sets this mode (07777).
    Absolute(u32),
    /// Changes that are applied in order.
    Symbolic(Vec<Change>),
}

/// An operation on some bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    operation: Operation,
    /// The bits of the classes that it changes.
    who: u32,
    /// Bits for all classes, to be restricted to `who`.
    bits: u32,
    /// `X`: execute permission for directories, and for files that any class may execute.
    conditional_execute: bool,
    /// Shifts of the classes whose current permissions are copied: 6, 3, 0 for `u`, `g`, `o`.
    copied: [Option<u32>; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Add,
    Remove,
    Set,
}

impl ModeChange {
    /// Parses the value of `--chmod`.
    ///
    /// # Errors
    /// The text is neither an octal number up to 07777 nor a list of symbolic changes.
    pub fn parse(text: &str) -> Result<Self, ModeError> {
        let invalid = || ModeError { text: text.to_owned() };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Absolute).ok_or_else(invalid);
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut changes).ok_or_else(invalid)?;
        }
        Ok(Self::Symbolic(changes))
    }

    /// Returns the new mode of a file or directory that has `mode`.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        let changes = match self {
            Self::Absolute(absolute) => return *absolute,
            Self::Symbolic(changes) => changes,
        };
        let executable = directory || mode & EXECUTE != 0;
        changes.iter().fold(mode, |now, change| change.apply(now, executable))
    }

    /// Returns the mode of directories made for the destination. Symbolic changes do not apply to them.
    pub fn of_new_directories(&self) -> Option<u32> {
        match self {
            Self::Absolute(mode) => Some(*mode),
            Self::Symbolic(_) => None,
        }
    }
}

impl Change {
    fn apply(self, mode: u32, executable: bool) -> u32 {
        let mut bits = self.bits;
        if self.conditional_execute && executable {
            bits |= EXECUTE;
        }
        for shift in self.copied.into_iter().flatten() {
            bits |= ((mode >> shift) & 0o7) * 0o111;
        }
        let bits = bits & self.who;
        match self.operation {
            Operation::Add => mode | bits,
            Operation::Remove => mode & !bits,
            Operation::Set => (mode & !self.who) | bits,
        }
    }
}

/// Parses `[ugoa]*([-+=][rwxXstugo]*)+`.
fn parse_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let (letters, mut rest) = clause.split_at(clause.find(['+', '-', '='])?);
    let mut who = 0;
    for letter in letters.chars() {
        who |= match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o007,
            'a' => 0o6777,
            _ => return None,
        };
    }
    let only_others = who == 0o007;
    if who == 0 {
        who = 0o6777;
    }
    while let Some(operator) = rest.chars().next() {
        let operation = match operator {
            '+' => Operation::Add,
            '-' => Operation::Remove,
            _ => Operation::Set,
        };
        let after = &rest[1..];
        let (permissions, next) = after.split_at(after.find(['+', '-', '=']).unwrap_or(after.len()));
        let mut change = Change { operation, who, bits: 0, conditional_execute: false, copied: [None; 3] };
        for letter in permissions.chars() {
            match letter {
                'r' => change.bits |= 0o444,
                'w' => change.bits |= 0o222,
                'x' => change.bits |= EXECUTE,
                'X' => change.conditional_execute = true,
                's' | 't' if only_others => {}
                's' => change.bits |= SET_IDS,
                't' => {
                    change.who |= STICKY;
                    change.bits |= STICKY;
                }
                'u' => change.copied[0] = Some(6),
                'g' => change.copied[1] = Some(3),
                'o' => change.copied[2] = Some(0),
                _ => return None,
            }
        }
        changes.push(change);
        rest = next;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_modes_replace_the_mode() {
        for (text, mode) in [("600", 0o600), ("0755", 0o755), ("4755", 0o4755), ("0", 0), ("07777", 0o7777)] {
            let change = ModeChange::parse(text).expect(text);
            assert_eq!((change.apply(0o1234, true), change.of_new_directories()), (mode, Some(mode)), "{text}");
        }
    }

    #[test]
    fn symbolic_modes_change_what_they_name() {
        for (text, mode, directory, expected) in [
            ("u=rwX,go=rX", 0o640, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("+x", 0o640, false, 0o751),
            ("a+x", 0o640, false, 0o751),
            ("g=u", 0o640, false, 0o660),
            ("g=u,u=", 0o700, false, 0o070),
            ("a-w,u+s", 0o750, true, 0o4550),
            ("go=", 0o2755, false, 0o700),
            ("o+t,g+s", 0o640, false, 0o2640),
            ("+t", 0o755, true, 0o1755),
            ("u+rw-x", 0o100, false, 0o600),
            ("u=s", 0o755, false, 0o4055),
            ("ug=rw,o=", 0o777, false, 0o660),
            ("o=u-w", 0o740, false, 0o745),
            ("a=", 0o7777, false, 0o1000),
            ("=r", 0o777, false, 0o444),
        ] {
            let change = ModeChange::parse(text).expect(text);
            assert_eq!(change.apply(mode, directory), expected, "{text} on {mode:o}");
            assert_eq!(change.of_new_directories(), None, "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "wat", "77777", "10000", "8", "0o755", "u", "u+q", "+x,", "z=r", "-1", "u=rw go=r"] {
            let error = ModeChange::parse(text).expect_err(text);
            assert!(error.to_string().starts_with("invalid chmod parameter"), "{text}");
        }
    }
}
