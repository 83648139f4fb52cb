package main

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed page
var page embed.FS

// site is what a browser gets: the page, and the issuer.
func site(i *issuer) http.Handler {
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the folder is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.Handle("GET /.well-known/jwks.json", i)
	mux.HandleFunc("POST /login", i.login)
	return secure(http.NewCrossOriginProtection().Handler(mux))
}

// policy lets the page load and call only what comes from here; no script and no style is
// within the page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // it may be another program the next time
		next.ServeHTTP(w, r)
	})
}
