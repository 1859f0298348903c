//! Validates the names of signals, for `STOPSIGNAL`.

/// The names that Docker supports on Linux, without `SIG`, and without the real-time ones.
const NAMES: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN",
];

/// Checks the expanded argument of `STOPSIGNAL`: a number other than 0, or a name with or without `SIG`, in any case.
///
/// # Errors
/// BuildKit's message, `invalid signal: NAME`.
pub fn validate(name: &str) -> Result<(), String> {
    let valid = match name.parse::<i64>() {
        Ok(number) => number != 0,
        Err(_) => {
            let upper = name.to_uppercase();
            let short = upper.strip_prefix("SIG").unwrap_or(&upper);
            NAMES.contains(&short) || is_real_time(short)
        }
    };
    if valid { Ok(()) } else { Err(format!("invalid signal: {name}")) }
}

/// Reports whether it is `RTMIN+1` to `RTMIN+15`, `RTMAX-14` to `RTMAX-1` or `RTMAX`.
fn is_real_time(name: &str) -> bool {
    let distance = |text: &str, last: u32| {
        !text.starts_with('0')
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && text.parse().is_ok_and(|n: u32| n <= last)
    };
    name == "RTMAX"
        || name.strip_prefix("RTMIN+").is_some_and(|text| distance(text, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|text| distance(text, 14))
}

#[cfg(test)]
mod tests {
    use super::validate;

    #[test]
    fn names_and_numbers() {
        for name in ["9", "SIGTERM", "sigint", "quit", "SIGRTMIN+3", "RTMAX-14", "rtmax", "65"] {
            assert_eq!(validate(name), Ok(()), "{name}");
        }
        for name in ["", "0", "SIGNOPE", "SIGINT SIGTERM", "SIGRTMIN+16", "RTMIN+03", "RTMAX-0", "SIGSIGINT", "RTMIN+"]
        {
            assert_eq!(validate(name), Err(format!("invalid signal: {name}")));
        }
    }
}
