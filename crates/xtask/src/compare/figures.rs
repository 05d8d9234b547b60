//! What the bench wrote.

use serde_json::Value;

/// The figures of a suite.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    pub(super) rows: Vec<Row>,
    pub(super) tails: Vec<Tail>,
    pub(super) memory: Vec<Memory>,
    pub(super) rounds: u64,
    pub(super) round_ms: u64,
}

/// The figures of one case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) ours_ns: f64,
    pub(super) peer: String,
    pub(super) peer_ns: f64,
    pub(super) ratio: f64,
    /// Ours and the peer's, per operation.
    pub(super) allocations: (f64, f64),
    /// Likewise, if they were counted.
    pub(super) instructions: Option<(f64, f64)>,
}

/// What the operations of a case took, one by one: at most so many nanoseconds for a half of them, for 99 %,
/// for 99.9 %.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tail {
    pub(super) case: String,
    pub(super) ours: [f64; 3],
    pub(super) peer: String,
    pub(super) theirs: [f64; 3],
}

/// The bytes per key of two stores.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Memory {
    pub(super) case: String,
    pub(super) keys: u64,
    pub(super) ours_bytes: f64,
    pub(super) peer: String,
    pub(super) peer_bytes: f64,
}

impl Figures {
    /// Of the rows and of the facts beside them.
    pub(super) fn parse(written: &[String]) -> Result<Self, String> {
        let [rows, facts] = written else { return Err("the bench writes rows and facts".into()) };
        let facts = parsed(facts)?;
        Ok(Self {
            rows: each(&parsed(rows)?, Row::parse)?,
            tails: each(&facts["tails"], Tail::parse)?,
            memory: each(&facts["memory"], Memory::parse)?,
            rounds: whole(&facts, "rounds")?,
            round_ms: whole(&facts, "round_ms")?,
        })
    }
}

impl Row {
    fn parse(row: &Value) -> Result<Self, String> {
        Ok(Self {
            case: text(row, "case")?,
            ours_ns: number(row, "ours_ns")?,
            peer: text(row, "peer")?,
            peer_ns: number(row, "peer_ns")?,
            ratio: number(row, "ratio")?,
            allocations: (number(row, "ours_allocations")?, number(row, "peer_allocations")?),
            instructions: None,
        })
    }
}

impl Tail {
    fn parse(row: &Value) -> Result<Self, String> {
        let side = |key: &str| -> Result<[f64; 3], String> {
            let ranks: Vec<f64> = row[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
            ranks.try_into().map_err(|_| format!("not three numbers `{key}` in {row}"))
        };
        Ok(Self { case: text(row, "case")?, ours: side("ours")?, peer: text(row, "peer")?, theirs: side("theirs")? })
    }
}

impl Memory {
    fn parse(row: &Value) -> Result<Self, String> {
        Ok(Self {
            case: text(row, "case")?,
            keys: whole(row, "keys")?,
            ours_bytes: number(row, "ours_bytes")?,
            peer: text(row, "peer")?,
            peer_bytes: number(row, "peer_bytes")?,
        })
    }
}

fn parsed(json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(|error| format!("what the bench wrote is no JSON: {error}"))
}

fn each<T>(json: &Value, parse: fn(&Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    json.as_array().ok_or_else(|| format!("not a list: {json}"))?.iter().map(parse).collect()
}

fn text(object: &Value, key: &str) -> Result<String, String> {
    let text = object[key].as_str().ok_or_else(|| format!("no text `{key}` in {object}"))?;
    Ok(text.to_owned())
}

fn number(object: &Value, key: &str) -> Result<f64, String> {
    object[key].as_f64().ok_or_else(|| format!("no number `{key}` in {object}"))
}

fn whole(object: &Value, key: &str) -> Result<u64, String> {
    object[key].as_u64().ok_or_else(|| format!("no whole number `{key}` in {object}"))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn some() -> Figures {
        let rows = json!([
            {
                "case": "limit/direct-allow", "ours_ns": 12.34, "peer": "governor", "peer_ns": 24.68, "ratio": 0.5,
                "ours_allocations": 0.0, "peer_allocations": 2.0,
            },
            {
                "case": "limit/floor", "ours_ns": 12.0, "peer": "clock+cas", "peer_ns": 10.0, "ratio": 1.2,
                "ours_allocations": 0.0, "peer_allocations": 0.0,
            },
        ]);
        let memory = json!({
            "case": "limit/keyed-u64", "keys": 1000, "ours_bytes": 28.0, "peer": "governor", "peer_bytes": 56.0,
        });
        let tail = json!({
            "case": "limit/tail", "ours": [10.0, 20.0, 300.0], "peer": "governor", "theirs": [11.0, 21.0, 600.0],
        });
        let facts = json!({ "rounds": 7, "round_ms": 3, "tails": [tail], "memory": [memory] });
        Figures::parse(&[rows.to_string(), facts.to_string()]).unwrap()
    }

    #[test]
    fn a_row_without_a_figure_is_an_error_that_names_it() {
        let error = Row::parse(&json!({ "case": "limit/floor", "peer": "x" })).unwrap_err();
        assert!(error.contains("`ours_ns`"), "{error}");
        assert!(each(&json!({}), Row::parse).is_err());
        let error =
            Tail::parse(&json!({ "case": "x", "peer": "y", "ours": [1.0, 2.0, 3.0], "theirs": [1.0] })).unwrap_err();
        assert!(error.contains("`theirs`"), "{error}");
    }
}
