#!/bin/sh
# Checks templates of CloudFormation by cfn-lint, which is installed below CACHE:
#
#	CACHE=.cache cdk/lint.sh template.json …
#
# W3005: the CDK says twice that a function depends on its role.
set -eu
here=$(dirname "$0")
venv=${CACHE:?}/cfn-lint
wanted=$here/cfn-lint.txt
if ! cmp -s "$wanted" "$venv/requirements.txt"; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
	cp "$wanted" "$venv/requirements.txt"
fi
"$venv/bin/cfn-lint" --ignore-checks W3005 -- "$@"
echo "cfn-lint: $# templates"
