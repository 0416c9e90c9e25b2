//! Where in which file a value stands.

/// Where a value stands. Orders as a reader would: by source, then from top to bottom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the [`Source`], in order of precedence.
    pub source: usize,
    /// Bytes from the source's beginning.
    pub offset: usize,
}

/// A file or a variable.
#[derive(Debug)]
pub struct Source {
    name: String,
    /// Text of the file and where its lines begin. None for a variable, and for a file that cannot be read.
    text: Option<(String, Vec<usize>)>,
}

impl Source {
    /// A file with its text.
    pub fn file(name: String, text: String) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Source { text: Some((text, lines)), ..Source::named(name) }
    }

    /// A source without lines.
    pub fn named(name: String) -> Self {
        // A mistake is told on one line, whatever its source is called.
        let name = if name.contains(char::is_control) { name.escape_debug().to_string() } else { name };
        Source { name, text: None }
    }

    /// `name:line:column`, or the name alone. Columns count characters; both start at 1.
    pub fn show(&self, offset: usize) -> String {
        let Some((text, lines)) = &self.text else { return self.name.clone() };
        let line = lines.partition_point(|start| *start <= offset);
        let start = lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        format!("{}:{line}:{column}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_start_at_one() {
        let source = Source::file("f".into(), "ä = 1\nbü = 2\n".into());
        assert_eq!(source.show(0), "f:1:1");
        assert_eq!(source.show("ä = ".len()), "f:1:5");
        assert_eq!(source.show("ä = 1\n".len()), "f:2:1");
        assert_eq!(source.show("ä = 1\nbü = ".len()), "f:2:6");
        assert_eq!(source.show("ä = 1\nbü = 2\n".len()), "f:3:1");
        assert_eq!(Source::named("TIDEGATE_X".into()).show(3), "TIDEGATE_X");
        assert_eq!(Source::named("TIDEGATE_X\nY".into()).show(3), "TIDEGATE_X\\nY");
    }
}
