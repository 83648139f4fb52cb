package swarm

import (
	"fmt"
	"reflect"
	"strings"
)

// TypeOf returns the category of the type T: its name without package, with all
// type arguments (Note, Pair[User,Note]). A pointer counts as what it points to.
// It returns an error for types that have no name that is stable and their own:
// unnamed types (slices, maps, anonymous structs, interfaces) and types declared
// inside functions as type arguments. They need an explicit category.
//
// Types of the same name from two packages have the same category. On the listen
// side of one kernel that is refused; give one of them an explicit category.
func TypeOf[T any]() (string, error) { return categoryOf(reflect.TypeFor[T]()) }

func categoryOf(typ reflect.Type) (string, error) {
	named := typ
	if named.Kind() == reflect.Pointer {
		named = named.Elem()
	}
	name := named.Name()
	switch {
	case name == "":
		return "", fmt.Errorf("swarm: type %s has no name, it needs an explicit category", typ)
	case strings.ContainsAny(name, "·{}()"):
		// The compiler numbers local types, and prints anonymous ones whole.
		return "", fmt.Errorf("swarm: type %s has no stable name, it needs an explicit category", typ)
	}
	return unqualified(name), nil
}

// unqualified drops the package path of each identifier in a type expression:
// Pair[github.com/x/y.User,map[string]z.Note] to Pair[User,map[string]Note].
func unqualified(name string) string {
	var out strings.Builder
	token := 0
	flush := func(end int) {
		ident := name[token:end]
		out.WriteString(ident[strings.LastIndexByte(ident, '.')+1:])
		token = end
	}
	for i := range len(name) {
		switch name[i] {
		case '[', ']', ',', '*', ' ':
			flush(i)
			out.WriteByte(name[i])
			token = i + 1
		}
	}
	flush(len(name))
	return out.String()
}
