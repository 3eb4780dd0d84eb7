//! The declarations of `ui/accepted/`: neighbours of the mistakes in the other folders, and right.

macro_rules! accepted {
    ($($case:ident)*) => {$(
        #[path = "../../ui/accepted"]
        mod $case {
            mod $case;

            #[test]
            fn compiles() {
                $case::main();
            }
        }
    )*};
}

accepted! {
    empty_attribute
    quantize_with_scheme
    renamed_to_the_name_of_a_skipped_field
    same_names_in_two_variants
    skipped_field_of_any_type
    trailing_commas
}
