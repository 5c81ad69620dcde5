//! The fields of a line of comma-separated values, as Go's `encoding/csv` reads them.

/// The fields of a line of comma-separated values; one in double quotes may hold commas, and quotes doubled.
pub(super) fn fields(text: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut rest) = (Vec::new(), text);
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            None => rest
                .split_once(',')
                .map_or((rest.to_owned(), None), |(field, rest)| (field.to_owned(), Some(rest))),
            Some(quoted) => {
                let end = closing(quoted).ok_or("a quote is not closed")?;
                let field = quoted[..end].replace("\"\"", "\"");
                match &quoted[end + 1..] {
                    "" => (field, None),
                    after => (field, Some(after.strip_prefix(',').ok_or("text follows a closing quote")?)),
                }
            }
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// Where the quote that ends a quoted field stands.
fn closing(quoted: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let quote = from + quoted[from..].find('"')?;
        if !quoted[quote + 1..].starts_with('"') {
            return Some(quote);
        }
        from = quote + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn fields_are_those_of_a_csv_line() {
        let read = |text| fields(text).map(|fields| fields.join("|"));
        assert_eq!(read(r#"a=1,"b=2,3",c"#).unwrap(), "a=1|b=2,3|c");
        assert_eq!(read(r#""a=""b""","#).unwrap(), r#"a="b"|"#);
        assert!(read(r#""a"#).is_err() && read(r#""a"b"#).is_err());
    }
}
