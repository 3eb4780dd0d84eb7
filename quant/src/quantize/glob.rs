//! Patterns that match paths.

/// Whether `pattern` matches the whole of `path`.
///
/// Steps are separated by dots: `*` stands for any run of characters within a step, `**` for any
/// number of steps, `?` for one character, `[ab]` for one of those and `{a,b}` for either.
pub fn matches(pattern: &str, path: &str) -> bool {
    // The crate knows paths of files; a step that holds a slash would be two to it, so slashes
    // change places with dots.
    let swap = |text: &str| -> alloc::string::String {
        text.chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect()
    };
    fast_glob::glob_match(swap(pattern), swap(path))
}

/// The pattern that matches `path` and nothing else.
pub(super) fn escape(path: &str) -> alloc::string::String {
    let mut pattern = alloc::string::String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | ',' | '!' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::{escape, matches};

    #[test]
    fn an_escaped_path_matches_itself_alone() {
        let paths = [
            "fc1.weight",
            "a*",
            "a**",
            "?",
            "[0]",
            "{a,b}",
            "!a",
            "a\\b",
            "\\",
            "a/b.c",
            "x[!a-z]",
            "**",
            "",
            "ä.ö",
            "a,b",
            "\\*",
            "!!",
            "a.!b",
            ".",
            "..",
            "a-b",
            "^",
            "[^a]",
        ];
        for path in paths {
            for other in paths {
                assert_eq!(matches(&escape(path), other), path == other, "{path:?} {other:?}");
            }
        }
    }

    #[test]
    fn stars_stay_within_a_step_and_double_stars_do_not() {
        for (pattern, path, expected) in [
            ("fc1.weight", "fc1.weight", true),
            ("fc1.weight", "fc1.weights", false),
            ("fc1.weight", "xfc1.weight", false),
            ("*.weight", "fc1.weight", true),
            ("*.weight", "layers.0.weight", false),
            ("**.weight", "layers.0.weight", true),
            ("**.weight", "weight", true),
            ("layers.**", "layers.0.attention.weight", true),
            ("layers.*.weight", "layers.11.weight", true),
            ("layers.[01].weight", "layers.1.weight", true),
            ("layers.?.weight", "layers.11.weight", false),
            ("{fc1,fc2}.*", "fc2.bias", true),
            ("*", "a/b", true),
            ("**", "", true),
            ("", "", true),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}
