package ledger

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Handler answers GET and HEAD, on whatever path it is: the JSON of a [Snapshot] to programs;
// and to who accepts text/html, as browsers do, a page that asks for the JSON each second and
// draws it. The page loads nothing else, and keeps the last minutes itself. Answers are never
// cached. The map is copied. See the package about who may reach it.
func Handler(sources map[string]Source) http.Handler {
	return handler{maps.Clone(sources)}
}

type handler struct{ sources map[string]Source }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("Vary", "Accept")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		head.Set("Allow", "GET, HEAD")
		http.Error(w, "the ledger is to be read: GET", http.StatusMethodNotAllowed)
	case wantsPage(r.Header.Values("Accept")):
		p := page()
		head.Set("Content-Security-Policy", p.policy)
		head.Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(p.text)
	default:
		h.json(w)
	}
}

func (h handler) json(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(Take(h.sources)) // who asked has gone
}

// wantsPage: text/html is named, and liked better than JSON.
func wantsPage(accept []string) bool {
	var html, json float64
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, params, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "text/html", "application/xhtml+xml":
			html = max(html, quality(params))
		case "application/json":
			json = max(json, quality(params))
		}
	}
	return html > json
}

// quality is the weight among the parameters of a media range.
func quality(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return 0
			}
			return q
		}
	}
	return 1
}

//go:embed page/index.html
var pageHTML string

//go:embed page/style.css
var pageCSS string

//go:embed page/app.js
var pageJS string

// document is the page as one file, with a policy that allows what is in it, and requests to
// where it came from.
type document struct {
	text   []byte
	policy string
}

var page = sync.OnceValue(func() document {
	text := strings.NewReplacer("<style></style>", "<style>"+pageCSS+"</style>", "<script></script>", "<script>"+pageJS+"</script>").Replace(pageHTML)
	return document{[]byte(text), "default-src 'none'; script-src " + hash(pageJS) + "; style-src " + hash(pageCSS) +
		"; img-src data:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"}
})

// hash is how a policy names a script, or a style.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
