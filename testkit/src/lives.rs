//! What a store's next life holds of what the last one wrote.

/// The newest of `history` (what the store held after each batch) that the next life holds, as
/// `compare` finds; not one before `sure`, the last that was durable.
///
/// # Errors
/// In words, how it differs, when it holds none of them.
pub(crate) fn kept<M: Clone>(
    history: &[M],
    sure: usize,
    compare: impl Fn(&M) -> Result<(), String>,
) -> Result<M, String> {
    let outcomes = history
        .iter()
        .skip(sure)
        .map(|model| compare(model).map(|()| model));
    let outcomes: Vec<Result<&M, String>> = outcomes.collect();
    let newest = outcomes.iter().rev().flatten().next();
    newest.map(|model| (*model).clone()).ok_or_else(|| {
        let why = |outcome: Option<&Result<&M, String>>| {
            outcome.and_then(|outcome| outcome.as_ref().err().cloned())
        };
        format!(
            "of {} batches {sure} were durable; against those: {:?}; against all: {:?}",
            history.len().saturating_sub(1),
            why(outcomes.first()),
            why(outcomes.last())
        )
    })
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn newest_that_fits_is_kept_and_none_before_what_was_durable() {
        let among = |fits: &'static [u32]| {
            move |model: &u32| match fits.contains(model) {
                true => Ok(()),
                false => Err(format!("not {model}")),
            }
        };
        assert_eq!(kept(&[0, 1, 2, 3], 1, among(&[0, 1, 2])), Ok(2));
        assert_eq!(kept(&[0, 1, 2, 3], 1, among(&[1])), Ok(1));
        let lost = kept(&[0, 1, 2, 3], 1, among(&[0])).unwrap_err();
        assert_eq!(
            lost,
            "of 3 batches 1 were durable; against those: Some(\"not 1\"); \
             against all: Some(\"not 3\")"
        );
    }
}
