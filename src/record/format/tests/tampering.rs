//! Bodies that nobody of ours wrote: an error that names what is wrong, never a panic.

use std::error::Error as _;

use super::samples::{at, entries};
use crate::model::Timestamp;
use crate::record::format::{FormatError, RecordSummary, decode, encode, entry_record};
use crate::rollout::Fact;

fn says(error: &FormatError) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[track_caller]
fn refused(kind: &str, body: &str, wanted: &str) {
    let error = says(&decode(at(0), kind, body).unwrap_err());
    assert!(error.contains(wanted), "{error}\nshould say: {wanted}");
}

#[test]
fn what_is_wrong_is_named() {
    refused("exploded\n", r#"{"v":1}"#, "unknown kind `exploded\\n`");
    refused("refused", r#"{"v":2,"hash":"00"}"#, "version 2 is not known");
    refused("refused", r#"{"hash":"00","v":2}"#, "version 2 is not known");
    refused("refused", r#"{"revision":"00"}"#, "`00` is not a commit id");
    refused("took_over", r#"{"epoch":1}"#, "missing field `v`");
    refused("took_over", r#"{"v":1}"#, "missing field `epoch`");
    refused("took_over", r#"{"v":1,"epoch":1,"epoch":2}"#, "duplicate field `epoch`");
    refused("took_over", r#"{"v":1,"epoch":1,"era":2}"#, "unknown field `era`");
    refused("took_over", r#"{"v":1,"epoch":-1}"#, "invalid value: integer `-1`");
    refused("took_over", r#"{"v":1,"epoch":1e99}"#, "floating point");
    refused("took_over", r#"{"v":1,"epoch":18446744073709551616}"#, "floating point");
    refused("took_over", "", "EOF");
    refused("took_over", &"[".repeat(100_000), "invalid type: sequence");
}

#[test]
fn texts_are_checked_again() {
    let veto = |target: &str, reference: &str| {
        format!(r#"{{"v":1,"target":"{target}","number":1,"ref":"{reference}","how":""}}"#)
    };
    refused("vetoed", &veto("shop/staging", "--option"), "`--option` is not a valid ref");
    refused("vetoed", &veto("shop/staging", "a..b"), "not a valid ref");
    refused("vetoed", &veto("../staging", "1"), "not a valid service name");
    refused("vetoed", &veto("shop", "1"), "`shop` is not service/environment");
    refused("vetoed", &veto("shop/a/b", "1"), "not a valid environment name");
    let event = |what: &str| {
        format!(r#"{{"v":1,"target":"a/b","id":"0123456789ab","event":{{"at":1,"what":{what}}}}}"#)
    };
    let started = |op: &str, attempt: &str| {
        event(&format!(r#"{{"started":{{"op":"{op}","attempt":{attempt},"epoch":1}}}}"#))
    };
    assert!(decode(at(0), "rollout", &started("0-0-0-0-0", "1")).is_ok());
    for op in ["", "0-0-0-0", "0-0-0-0-0-0", "+0-0-0-0-0", "00-0-0-0-0", "0-0-0-0-4294967296"] {
        refused("rollout", &started(op, "1"), "is not the place of an operation");
    }
    refused("rollout", &started("0-0-0-0-0", "4294967296"), "expected u32");
    refused("rollout", &event(r#""melted""#), "unknown variant `melted`");
    refused("rollout", &event(r#"{"waiting":{"op":"0-0-0-0-0"}}"#), "missing field `why`");
    let elsewhere = event(r#"{"settled":"partial"}"#).replace("0123456789ab", "../../x");
    refused("rollout", &elsewhere, "`../../x` is not the id of a rollout");
}

#[test]
fn absurd_numbers_and_empty_commands_are_refused() {
    let planned = entries().into_iter().find(|it| matches!(it.fact, Fact::Planned(_))).unwrap();
    let (_, kind, body) = encode(&planned);
    let with = |from: &str, to: &str| {
        assert!(body.contains(from), "{from} is not in {body}");
        body.replacen(from, to, 1)
    };
    refused(kind, &with(r#""timeout_ms":600000"#, r#""timeout_ms":99999999999999"#), "ten years");
    refused(kind, &with(r#""planned_at":1"#, r#""planned_at":999991"#), "beyond the year 9999");
    refused(kind, &with(r#""size":40"#, r#""size":-40"#), "invalid value");
    refused(kind, &with(r#"["install","1.4.2"]"#, "[]"), "a command without a program");
    refused(kind, &with(r#"["install","1.4.2"]"#, r#"["",""]"#), "a command without a program");
    refused(kind, &with(r#""when":"always""#, r#""when":"never""#), "unknown variant `never`");
    refused(kind, &with(r#""absent":3"#, r#""absent":256"#), "expected u8");
}

#[test]
fn no_broken_byte_panics_and_none_is_silently_dropped() {
    for entry in entries() {
        let (_, kind, body) = encode(&entry);
        for end in (0..body.len()).filter(|end| body.is_char_boundary(*end)) {
            assert!(decode(at(0), kind, &body[..end]).is_err());
        }
        let extra = format!("{},\"extra\":1}}", &body[..body.len() - 1]);
        assert!(decode(at(0), kind, &extra).is_err(), "{extra}");
    }
}

#[test]
fn a_record_is_checked_as_well() {
    let said = |json: &str| says(&RecordSummary::parse(json).unwrap_err());
    assert!(said(r#"{"version":1,"kind":"poem"}"#).contains("unknown kind `poem`"));
    assert!(said(r#"{"version":9,"kind":"poem"}"#).contains("version 9 is not known"));
    assert!(said(r#"{"version":1}"#).contains("missing field `kind`"));
    assert!(said(r#"{"version":1,"kind":"veto"}"#).contains("missing field `id`"));
    let veto = entries().into_iter().find(|it| matches!(it.fact, Fact::Vetoed { .. })).unwrap();
    let veto = entry_record(&veto, "00000001").unwrap();
    assert!(said(&veto.replace("1.4.2", "$(reboot)")).contains("not a valid ref"));
    assert!(said(&veto.replace("2026-11-21T", "soon")).contains("is not a time"));
    let late = Timestamp(u64::MAX);
    assert!(decode(late, "took_over", r#"{"v":1,"epoch":1}"#).is_ok(), "the caller owns the time");
}
