package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	clauseID = regexp.MustCompile(`\b([A-Z])(\d+)(?:–[A-Z](\d+))?`)
	defined  = regexp.MustCompile(`(?m)^// ([ELCB]\d+) `)
)

// checkClauses checks the clauses of the contract: those that a table of guarantees names are
// in the documentation of package swarm, and each that is there has a case in the
// conformance suite.
func (r *repository) checkClauses() error {
	contract := map[string]bool{}
	for _, m := range defined.FindAllStringSubmatch(r.texts["core/doc.go"], -1) {
		contract[m[1]] = true
	}
	cases, err := readCode(filepath.Join(r.root, "qtest"), false)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(contract)) {
		if !cases.names(id) {
			errs = append(errs, fmt.Errorf("core/doc.go: clause %s has no case in qtest", id))
		}
	}
	named := 0
	for _, t := range r.pages["README.md"].tables {
		column := t.column("clauses")
		if column < 0 {
			continue
		}
		for _, row := range t.rows {
			for _, id := range ids(row.cells[column]) {
				named++
				if !contract[id] {
					errs = append(errs, fmt.Errorf("README.md:%d: core/doc.go has no clause %s", row.line, id))
				}
			}
		}
	}
	if len(contract) == 0 || named == 0 {
		errs = append(errs, errors.New("core/doc.go has no clauses, or README.md no table of them"))
	}
	return errors.Join(errs...)
}

// names reports that a text of the code is the id, or begins with it.
func (c *code) names(id string) bool {
	if c.words[id] {
		return true
	}
	for w := range c.words {
		if strings.HasPrefix(w, id+" ") {
			return true
		}
	}
	return false
}

// ids of a cell: L5, L6 and C1–C5.
func ids(cell string) (all []string) {
	for _, m := range clauseID.FindAllStringSubmatch(cell, -1) {
		first, _ := strconv.Atoi(m[2])
		last := first
		if m[3] != "" {
			last, _ = strconv.Atoi(m[3])
		}
		for n := first; n <= last; n++ {
			all = append(all, m[1]+strconv.Itoa(n))
		}
	}
	return all
}
