#!/usr/bin/env bash
# Fetches what the forges publish about their APIs into a directory:
#
#   tests/published/fetch.sh target/descriptions
#   TOWPATH_TEST_API_DESCRIPTIONS=$PWD/target/descriptions cargo test --test it hosted
#
# GitHub's come with the npm packages @octokit/openapi and @octokit/graphql-schema, Forgejo's (and Gitea's) with the crate
# forgejo-api. GitLab's is in no registry: it is doc/api/openapi/openapi_v3.yaml of GitLab's sources;
# if TOWPATH_TEST_GITLAB_OPENAPI names that file, it is taken too.
set -euo pipefail
to=${1:?"where to? e.g. target/descriptions"}
mkdir -p "$to"
to=$(cd "$to" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -s "$to/github.json" ]; then
  (cd "$work" && npm pack --silent @octokit/openapi@23 >/dev/null)
  tar -xzf "$work"/octokit-openapi-*.tgz -C "$work" package/generated/api.github.com.json
  mv "$work/package/generated/api.github.com.json" "$to/github.json"
fi
if [ ! -s "$to/github-graphql.json" ]; then
  (cd "$work" && npm pack --silent @octokit/graphql-schema@15 >/dev/null)
  tar -xzf "$work"/octokit-graphql-schema-*.tgz -C "$work" package/schema.json
  mv "$work/package/schema.json" "$to/github-graphql.json"
fi
if [ ! -s "$to/forgejo.json" ]; then
  mkdir -p "$work/crate/src" && : >"$work/crate/src/lib.rs"
  printf '[package]\nname = "descriptions"\nversion = "0.0.0"\nedition = "2021"\n\n[dependencies]\nforgejo-api = { version = "=0.12.0", default-features = false }\n\n[workspace]\n' \
    >"$work/crate/Cargo.toml"
  (cd "$work/crate" && cargo vendor --quiet vendor >/dev/null)
  mv "$work/crate/vendor/forgejo-api/swagger.v1.json" "$to/forgejo.json"
fi
if [ -n "${TOWPATH_TEST_GITLAB_OPENAPI:-}" ]; then
  python3 -c 'import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), open(sys.argv[2], "w"))' \
    "$TOWPATH_TEST_GITLAB_OPENAPI" "$to/gitlab.json"
fi
ls -l "$to"
