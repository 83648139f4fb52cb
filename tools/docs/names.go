package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// name is one that a package exports.
type name struct {
	text, at   string // at: file:line
	key        string // path.Name
	method     bool
	typ        bool
	documented bool
	mentions   *code // of its declaration, without the body of a function
	shown      bool
}

// engine is a package whose API is for two others before it is for users: their tests are its.
const engine = "core/kernel"

var edges = []string{"core/emit", "core/listen"}

// usual are methods that interfaces of the standard library document.
var usual = []string{"Error", "String"}

// checkNames checks that each name that a public package exports has a comment, and is shown:
// it stands in a test or an example, a method by its name, whatever it is of. A type is shown
// also by what mentions it, for few programs name the type that a function answers with.
func (r *repository) checkNames() error {
	var names []*name
	anywhere := newCode()                      // tests and examples
	own := map[string]*code{engine: newCode()} // tests, by folder
	for _, file := range slices.Sorted(maps.Keys(r.texts)) {
		folder := filepath.Dir(file)
		switch {
		case strings.HasPrefix(file, "tools/"):
		case strings.HasSuffix(file, "_test.go"), strings.HasPrefix(file, "examples/"):
			if own[folder] == nil {
				own[folder] = newCode()
			}
			path := filepath.Join(r.root, file)
			if err := errors.Join(own[folder].read(path), anywhere.read(path)); err != nil {
				return err
			}
		case !slices.Contains(strings.Split(folder, "/"), "internal"):
			more, err := exported(file, r.texts[file])
			if err != nil {
				return err
			}
			names = append(names, more...)
			if slices.Contains(edges, folder) {
				if err := own[engine].read(filepath.Join(r.root, file)); err != nil {
					return err
				}
			}
		}
	}
	for _, n := range names {
		tests := own[filepath.Dir(n.at)]
		n.shown = anywhere.uses[n.key] || n.method && anywhere.words[n.text] || tests != nil && tests.words[n.text]
	}
	spread(names)
	var errs []error
	for _, n := range names {
		if !n.documented && !(n.method && slices.Contains(usual, n.text)) {
			errs = append(errs, fmt.Errorf("%s: %s has no comment", n.at, n.text))
		}
		if !n.shown {
			errs = append(errs, fmt.Errorf("%s: %s stands in no test and no example", n.at, n.text))
		}
	}
	return errors.Join(errs...)
}

// spread shows the types that are mentioned by what is shown.
func spread(names []*name) {
	for again := true; again; {
		again = false
		for _, n := range names {
			if n.shown || !n.typ {
				continue
			}
			n.shown = slices.ContainsFunc(names, func(by *name) bool { return by.shown && by.mentions.uses[n.key] })
			again = again || n.shown
		}
	}
}

// exported are the names of a file that users see.
func exported(file, text string) (all []*name, err error) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil || f.Name.Name == "main" {
		return nil, err
	}
	path := repositoryPath + "/" + filepath.Dir(file)
	imports := importsOf(f)
	add := func(id *ast.Ident, n name, declared ast.Node, docs ...*ast.CommentGroup) {
		if !id.IsExported() {
			return
		}
		n.text, n.key = id.Name, path+"."+id.Name
		n.at = fmt.Sprintf("%s:%d", file, set.Position(id.Pos()).Line)
		n.documented = slices.ContainsFunc(docs, func(d *ast.CommentGroup) bool { return d != nil })
		n.mentions = newCode()
		if declared != nil {
			n.mentions.inspect(declared, imports)
		}
		for word := range n.mentions.words {
			n.mentions.uses[path+"."+word] = true
		}
		all = append(all, &n)
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)) {
				add(d.Name, name{method: d.Recv != nil}, d.Type, d.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					add(s.Name, name{typ: true}, s.Type, s.Doc, s.Comment, d.Doc)
				case *ast.ValueSpec:
					for _, id := range s.Names {
						add(id, name{}, s.Type, s.Doc, s.Comment, d.Doc)
					}
				}
			}
		}
	}
	return all, nil
}

// receiver is the name of the type of a method.
func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.IndexListExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}
