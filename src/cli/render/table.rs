//! Columns, as docker and compose print them: cells of a least width, some spaces apart. Pure.

/// A table with a headline. Cells hold no newlines.
#[derive(Debug)]
pub(in crate::cli) struct Table {
    rows: Vec<Vec<String>>,
    least: usize,
    apart: usize,
}

impl Table {
    /// Cells at least ten wide, three spaces apart: the docker command's.
    pub(in crate::cli) fn new(headline: &[&str]) -> Self {
        Self::spaced(headline, 10, 3)
    }

    /// Cells at least `least` wide, `apart` spaces apart.
    pub(in crate::cli) fn spaced(headline: &[&str], least: usize, apart: usize) -> Self {
        Self { rows: vec![headline.iter().map(|&name| name.to_owned()).collect()], least, apart }
    }

    pub(in crate::cli) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines; the last column is not filled up.
    pub(in crate::cli) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count() + self.apart).max().unwrap_or(0).max(self.least)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if column + 1 < row.len() {
                    text.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count()));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["NAME", "IMAGE", "PORTS"]);
        table.row(vec!["pack-nginx-1".into(), "nginx".into(), "0.0.0.0:80->80/tcp".into()]);
        table.row(vec!["pack-é-1".into(), "x".into(), String::new()]);
        let expected = "NAME           IMAGE     PORTS\n\
            pack-nginx-1   nginx     0.0.0.0:80->80/tcp\n\
            pack-é-1       x         \n";
        assert_eq!(table.text(), expected);
    }
}
