package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

const repositoryPath = "github.com/fogfish/swarm"

// code is what Go files say, by their syntax: enough to hold documentation against it.
type code struct {
	program   bool              // has a package main
	functions map[string]bool   // of the package
	methods   map[string]bool   // of any type
	ports     map[string]bool   // methods of interfaces
	calls     map[string]bool   // of methods and functions, by the last part of their name
	constants map[string]string // that are texts
	sizes     map[int64]bool    // that are shifts
	words     map[string]bool   // identifiers and texts
	uses      map[string]bool   // names of other packages: path.Name
}

func newCode() *code {
	return &code{
		functions: map[string]bool{}, methods: map[string]bool{}, ports: map[string]bool{}, calls: map[string]bool{},
		constants: map[string]string{}, sizes: map[int64]bool{}, words: map[string]bool{}, uses: map[string]bool{},
	}
}

// readCode reads a file, or the files of a folder; of a package without its tests, or them
// alone.
func readCode(name string, tests bool) (*code, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	files := []string{name}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(name, "*.go")); err != nil {
			return nil, err
		}
	}
	c, n := newCode(), 0
	for _, file := range files {
		if info.IsDir() && strings.HasSuffix(file, "_test.go") != tests {
			continue
		}
		n++
		if err := c.read(file); err != nil {
			return nil, err
		}
	}
	if n == 0 {
		return nil, fmt.Errorf("%s has no Go", name)
	}
	return c, nil
}

func (c *code) read(file string) error {
	if filepath.Ext(file) != ".go" {
		return errors.New(file + " is not Go")
	}
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	c.program = c.program || f.Name.Name == "main"
	c.inspect(f, importsOf(f))
	return nil
}

// importsOf is the paths of the packages that a file imports, by their names in it.
func importsOf(f *ast.File) map[string]string {
	imports := map[string]string{}
	for _, i := range f.Imports {
		of, _ := strconv.Unquote(i.Path.Value)
		name := path.Base(of)
		if i.Name != nil {
			name = i.Name.Name
		}
		imports[name] = of
	}
	return imports
}

func (c *code) inspect(n ast.Node, imports map[string]string) {
	ast.Inspect(n, func(n ast.Node) bool {
		c.node(n, imports)
		return true
	})
}

func (c *code) node(n ast.Node, imports map[string]string) {
	switch n := n.(type) {
	case *ast.Ident:
		c.words[n.Name] = true
	case *ast.BasicLit:
		if text, err := strconv.Unquote(n.Value); err == nil {
			c.words[text] = true
		}
	case *ast.FuncDecl:
		if n.Recv == nil {
			c.functions[n.Name.Name] = true
		} else {
			c.methods[n.Name.Name] = true
		}
	case *ast.InterfaceType:
		for _, m := range n.Methods.List {
			for _, name := range m.Names {
				c.ports[name.Name] = true
			}
		}
	case *ast.ValueSpec:
		c.values(n)
	case *ast.BinaryExpr:
		if size, ok := shift(n); ok {
			c.sizes[size] = true
		}
	case *ast.CallExpr:
		c.calls[called(n.Fun)] = true
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && imports[x.Name] != "" {
			c.uses[imports[x.Name]+"."+n.Sel.Name] = true
		}
	}
}

func (c *code) values(n *ast.ValueSpec) {
	for i, name := range n.Names {
		if i >= len(n.Values) {
			return
		}
		if lit, ok := n.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			c.constants[name.Name], _ = strconv.Unquote(lit.Value)
		}
	}
}

// shift is the value of an expression like 1 << 20.
func shift(n *ast.BinaryExpr) (int64, bool) {
	x, okX := n.X.(*ast.BasicLit)
	y, okY := n.Y.(*ast.BasicLit)
	if n.Op != token.SHL || !okX || !okY || x.Kind != token.INT || y.Kind != token.INT {
		return 0, false
	}
	by, ok := constant.Uint64Val(constant.MakeFromLiteral(y.Value, y.Kind, 0))
	if !ok {
		return 0, false
	}
	return constant.Int64Val(constant.Shift(constant.MakeFromLiteral(x.Value, x.Kind, 0), token.SHL, uint(by)))
}

func called(fun ast.Expr) string {
	switch fun := fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	case *ast.IndexExpr:
		return called(fun.X)
	case *ast.IndexListExpr:
		return called(fun.X)
	}
	return ""
}
