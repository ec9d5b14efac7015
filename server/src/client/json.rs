//! JSON as the commands print it: a writer of a page, since nothing here reads any.

use std::fmt::Write;

/// One JSON object under construction.
#[derive(Debug)]
pub(crate) struct Object {
    text: String,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self {
            text: String::from("{"),
        }
    }

    fn key(mut self, name: &str) -> Self {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        push_string(&mut self.text, name);
        self.text.push(':');
        self
    }

    pub(crate) fn string(self, name: &str, value: &str) -> Self {
        let mut object = self.key(name);
        push_string(&mut object.text, value);
        object
    }

    pub(crate) fn number(self, name: &str, value: u64) -> Self {
        self.raw(name, &value.to_string())
    }

    /// With three digits behind the point; what is no number becomes null.
    pub(crate) fn decimal(self, name: &str, value: f64) -> Self {
        let text = if value.is_finite() {
            format!("{value:.3}")
        } else {
            "null".to_owned()
        };
        self.raw(name, &text)
    }

    /// JSON that is written already.
    pub(crate) fn raw(self, name: &str, json: &str) -> Self {
        let mut object = self.key(name);
        object.text.push_str(json);
        object
    }

    pub(crate) fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// A JSON list of values that are JSON already.
pub(crate) fn list(values: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", values.into_iter().collect::<Vec<_>>().join(","))
}

fn push_string(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                // Writing into a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_and_fields_separated() {
        let json = Object::new()
            .string("a\"b", "c\\\n\u{1f600}")
            .number("n", u64::MAX)
            .decimal("d", 1.5)
            .decimal("none", f64::NAN)
            .raw("list", &list(["1".to_owned(), "2".to_owned()]))
            .end();
        let expected = "{\"a\\\"b\":\"c\\\\\\u000a\u{1f600}\",\"n\":18446744073709551615,\
                        \"d\":1.500,\"none\":null,\"list\":[1,2]}";
        assert_eq!(json, expected);
    }
}
