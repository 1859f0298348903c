//! Formats a line on standard error: plain text, or a JSON object for a log collector.

use std::time::SystemTime;

use tracing::Level;

/// The style of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// The message, with the level before it unless it is information.
    #[default]
    Plain,
    /// The same with a coloured level.
    Colour,
    /// An object with `level`, `msg` and `time`, the keys of kaniko's JSON log, and one key for each field.
    Json,
}

/// The format of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineFormat {
    /// Plain, coloured or JSON.
    pub style: Style,
    /// True to put the time before a plain line; a JSON line always has it.
    pub timestamp: bool,
}

impl LineFormat {
    /// Returns the line for `message`, without a line feed at its end. `fields` are its names and values.
    #[must_use]
    pub fn render(&self, level: Level, message: &str, fields: &[(String, String)], now: SystemTime) -> String {
        match self.style {
            Style::Plain | Style::Colour => self.plain(level, message, fields, now),
            Style::Json => json(level, message, fields, now),
        }
    }

    fn plain(self, level: Level, message: &str, fields: &[(String, String)], now: SystemTime) -> String {
        let mut line = String::new();
        if self.timestamp {
            line.push_str(&humantime::format_rfc3339_seconds(now).to_string());
            line.push(' ');
        }
        line.push_str(&self.prefix(level));
        line.push_str(message);
        for (name, value) in fields {
            line.push(' ');
            line.push_str(name);
            line.push('=');
            line.push_str(value);
        }
        line
    }

    /// Returns the level as written before a message: `error: `, in red with colours; empty for information.
    #[must_use]
    pub fn prefix(self, level: Level) -> String {
        const RED: &str = "31";
        const YELLOW: &str = "33";
        const GREY: &str = "90";
        let (word, colour) = match level {
            Level::ERROR => ("error", RED),
            Level::WARN => ("warning", YELLOW),
            Level::INFO => return String::new(),
            Level::DEBUG => ("debug", GREY),
            Level::TRACE => ("trace", GREY),
        };
        match self.style {
            Style::Colour => format!("\u{1b}[{colour}m{word}:\u{1b}[0m "),
            Style::Plain | Style::Json => format!("{word}: "),
        }
    }
}

fn json(level: Level, message: &str, fields: &[(String, String)], now: SystemTime) -> String {
    let name = match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    let mut object = serde_json::Map::new();
    object.insert("level".to_owned(), name.into());
    object.insert("msg".to_owned(), message.into());
    object.insert("time".to_owned(), humantime::format_rfc3339_seconds(now).to_string().into());
    for (field, value) in fields {
        object.insert(field.clone(), value.as_str().into());
    }
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn render(style: Style, timestamp: bool, level: Level, message: &str, fields: &[(&str, &str)]) -> String {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        LineFormat { style, timestamp }.render(level, message, &fields, now)
    }

    #[test]
    fn plain_lines_are_short() {
        assert_eq!(render(Style::Plain, false, Level::INFO, "pulled", &[]), "pulled");
        assert_eq!(render(Style::Plain, false, Level::DEBUG, "probe", &[("why", "EPERM")]), "debug: probe why=EPERM");
        assert_eq!(render(Style::Plain, true, Level::WARN, "old", &[]), "2023-11-14T22:13:20Z warning: old");
    }

    #[test]
    fn colour_is_in_the_level_only() {
        assert_eq!(render(Style::Colour, false, Level::ERROR, "no", &[]), "\u{1b}[31merror:\u{1b}[0m no");
        assert_eq!(render(Style::Colour, false, Level::INFO, "yes", &[]), "yes");
    }

    #[test]
    fn json_lines_have_the_keys_of_kaniko() {
        assert_eq!(
            render(Style::Json, false, Level::WARN, "a \"b\"\n", &[("host", "h:1")]),
            r#"{"host":"h:1","level":"warning","msg":"a \"b\"\n","time":"2023-11-14T22:13:20Z"}"#
        );
    }
}
