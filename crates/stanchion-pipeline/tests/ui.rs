//! The two likeliest mistakes are told in words that help. The texts are those of
//! the stable compiler of the day; `TRYBUILD=overwrite` writes them anew.

#[test]
fn the_likeliest_mistakes_are_readable() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/error_without_classify.rs");
    cases.compile_fail("tests/ui/future_instead_of_closure.rs");
}
