//! The routes of the real server, from its API description. Those not in the list get the web page.

use std::sync::LazyLock;

struct Route {
    method: &'static str,
    template: &'static str,
    segments: Vec<&'static str>,
}

/// Literal segments come before placeholders, so the first match is the right one.
static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let lines = include_str!("../routes.txt").lines().filter_map(|line| line.split_once(' '));
    lines.map(|(method, template)| Route { method, template, segments: split(template).collect() }).collect()
});

/// A route, and what its placeholders stand for.
pub(super) struct Found {
    pub(super) template: &'static str,
    pub(super) ids: Vec<String>,
}

pub(super) fn find(method: &str, path: &str) -> Option<Found> {
    let segments: Vec<_> = split(path).collect();
    let route = ROUTES.iter().find(|route| route.method == method && matches(&route.segments, &segments))?;
    let pairs = route.segments.iter().zip(&segments);
    let ids =
        pairs.filter(|(known, _)| known.starts_with('{')).map(|(_, given)| (*given).to_owned()).collect();
    Some(Found { template: route.template, ids })
}

fn split(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

fn matches(known: &[&str], given: &[&str]) -> bool {
    known.len() == given.len()
        && known.iter().zip(given).all(|(known, given)| known.starts_with('{') || known == given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, expect: Option<(&str, &[&str])>) {
        let found = find(method, path);
        let found = found.as_ref().map(|found| (found.template, found.ids.as_slice()));
        assert_eq!(
            found.map(|(t, ids)| (t, ids.iter().map(String::as_str).collect::<Vec<_>>())),
            expect.map(|(t, ids)| (t, ids.to_vec()))
        );
    }

    #[test]
    fn literal_routes_win_over_placeholders() {
        check("GET", "/session/status", Some(("/session/status", &[])));
        check("GET", "/session/ses_1", Some(("/session/{sessionID}", &["ses_1"])));
        check("GET", "/session/a/message/b", Some(("/session/{sessionID}/message/{messageID}", &["a", "b"])));
        check("POST", "/session/status", None);
        check("GET", "/nosuchroute", None);
        check("GET", "/", None);
    }
}
