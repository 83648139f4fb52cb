package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/golang-jwt/jwt/v5"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
	"github.com/fogfish/swarm/examples/internal/aws"
	"github.com/fogfish/swarm/qtest/localstack"
)

// binaries are the functions, built once, for all tests.
var binaries struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(binaries.dir)
	os.Exit(code)
}

func functions(t *testing.T) string {
	t.Helper()
	b := &binaries
	b.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "chat-"); b.err == nil {
			b.err = build(context.Background(), b.dir)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.dir
}

// journal is what the chat logs.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// running is a chat under test.
type running struct {
	*chat
	addr string
	log  *journal
}

func start(t *testing.T, with func(*chat)) *running {
	t.Helper()
	r := &running{log: new(journal)}
	r.chat = newChat(functions(t), r.log)
	if with != nil {
		with(r.chat)
	}
	t.Cleanup(func() {
		r.close()
		log := r.log.String()
		if t.Failed() {
			t.Logf("the log:\n%s", log)
		}
		for _, secret := range []string{r.secret, r.apiKey(), "eyJ", "hello"} {
			if strings.Contains(log, secret) {
				t.Error("a credential or a message is in the log")
			}
		}
	})
	r.open(t, "127.0.0.1:0")
	return r
}

func (r *running) open(t *testing.T, addr string) {
	t.Helper()
	l, err := listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	if err := r.start(t.Context(), l); err != nil {
		t.Fatal(err)
	}
}

// token that the issuer gives to a name.
func (r *running) token(t *testing.T, name string) string {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"name": name})
	res, err := http.Post("http://"+r.addr+"/login", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var out struct{ Token string }
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	return out.Token
}

func (r *running) dial(t *testing.T, query url.Values) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return websocket.Dial(ctx, "ws://"+r.addr+"/dev?"+query.Encode(), nil)
}

// client is someone in the chat.
type client struct {
	*testing.T
	ws   *websocket.Conn
	room string
}

func (r *running) client(t *testing.T, query url.Values) *client {
	t.Helper()
	ws, _, err := r.dial(t, query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	return &client{t, ws, ""}
}

// known logs in by a name, and joins the room.
func (r *running) known(t *testing.T, name, room string) *client {
	t.Helper()
	c := r.client(t, url.Values{"token": {r.token(t, name)}, "room": {room}})
	c.join(room)
	c.expect("Joined " + name + " " + room)
	return c
}

func (c *client) send(v any) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 5*time.Second)
	defer cancel()
	if err := wsjson.Write(ctx, c.ws, v); err != nil {
		c.Fatal(err)
	}
}

func (c *client) join(room string) {
	c.Helper()
	c.room = room
	c.send(map[string]string{"action": "Join", "room": room})
}

func (c *client) say(text string) {
	c.Helper()
	c.send(map[string]string{"action": "Say", "room": c.room, "id": "id of " + text, "text": text})
}

// read a message, as a line of text.
func (c *client) read() string {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 20*time.Second)
	defer cancel()
	var m struct {
		Action, Name, Room, ID, From, Text, Message string
		Names                                       []string
		At                                          time.Time
	}
	if err := wsjson.Read(ctx, c.ws, &m); err != nil {
		c.Fatal(err)
	}
	switch m.Action {
	case "Said":
		if m.ID != "id of "+m.Text || time.Since(m.At).Abs() > time.Minute {
			c.Errorf("got %+v", m)
		}
		return fmt.Sprint("Said ", m.Room, " ", m.From, ": ", m.Text)
	case "Present":
		return fmt.Sprint("Present ", m.Room, " ", m.Names)
	case "Joined":
		return fmt.Sprint("Joined ", m.Name, " ", m.Room)
	}
	return m.Message
}

// expect reads until all of the messages have come, in this order; others may be between.
func (c *client) expect(want ...string) {
	c.Helper()
	var seen []string
	for _, w := range want {
		for {
			got := c.read()
			seen = append(seen, got)
			if got == w {
				break
			}
			if len(seen) > 50 {
				c.Fatalf("want %q, got %q", want, seen)
			}
		}
	}
}

// gone waits for the end of the connection.
func (c *client) gone() websocket.StatusCode {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 20*time.Second)
	defer cancel()
	for {
		if _, _, err := c.ws.Read(ctx); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func TestChat(t *testing.T) {
	t.Run("memory", func(t *testing.T) { testChat(t, start(t, nil)) })
	t.Run("table", func(t *testing.T) {
		endpoint, account, table := localstack.Endpoint(t), localstack.Account("examples/chat"), aws.Name("chat")
		t.Cleanup(func() {
			c := dynamodb.NewFromConfig(aws.LocalStack(endpoint, account))
			if _, err := c.DeleteTable(context.Background(), &dynamodb.DeleteTableInput{TableName: &table}); err != nil {
				t.Error(err)
			}
		})
		testChat(t, start(t, func(c *chat) { c.table, c.account = table, account }))
	})
}

func testChat(t *testing.T, r *running) {
	ada := r.known(t, "ada", "hall")
	ada.expect("Present hall [ada]")

	// By API key, to the room by default.
	op := r.client(t, url.Values{"apikey": {r.apiKey()}})
	op.join("hall")
	op.expect("Joined operator hall", "Present hall [ada operator]")
	ada.expect("Present hall [ada operator]")

	ada.say("hello")
	ada.expect("Said hall ada: hello")
	op.expect("Said hall ada: hello")
	op.say("hello yourself <b>&amp;")
	op.expect("Said hall operator: hello yourself <b>&amp;")
	ada.expect("Said hall operator: hello yourself <b>&amp;")

	// Another room hears of it no more, and the one that was left is told.
	op.join("garden")
	op.expect("Joined operator garden", "Present garden [operator]")
	ada.expect("Present hall [ada]")
	op.say("hello garden")
	op.expect("Said garden operator: hello garden")
	ada.say("hello hall")
	if got := ada.read(); got != "Said hall ada: hello hall" {
		t.Errorf("got %s", got)
	}

	// The same client twice is there once, until both have gone.
	again := r.known(t, "ada", "garden")
	again.expect("Present garden [ada operator]")
	op.expect("Present garden [ada operator]")
	twice := r.known(t, "ada", "garden")
	op.expect("Present garden [ada operator]")
	again.ws.Close(websocket.StatusNormalClosure, "")
	op.expect("Present garden [ada operator]")
	twice.ws.CloseNow()
	op.expect("Present garden [operator]")
	if n := r.gateway.Stats().Failed; n != 0 {
		t.Errorf("%d messages have failed", n)
	}

	// A room that cannot be: an error, and one stays where one is.
	op.join("no such room!")
	op.expect("Internal server error")
	op.room = "hall"
	op.say("hello from outside")
	op.expect("Internal server error")
	op.room = "garden"
	op.say("hello again")
	op.expect("Said garden operator: hello again")
}

func TestRefused(t *testing.T) {
	r := start(t, nil)
	now := time.Now().Unix()
	sign := func(i *issuer, claims jwt.MapClaims) string {
		token, err := i.sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	claims := func(key string, value any) jwt.MapClaims {
		c := jwt.MapClaims{"iss": r.issuer.url, "aud": audience, "sub": "ada", "exp": now + 60}
		c[key] = value
		return c
	}
	foreign := newIssuer(r.issuer.url, "")
	foreign.kid = r.issuer.kid
	for name, x := range map[string]struct {
		query  url.Values
		status int
	}{
		"nothing":        {nil, 401},
		"wrong key":      {url.Values{"apikey": {authorizer.APIKey(r.access, "guess")}}, 401},
		"wrong access":   {url.Values{"apikey": {authorizer.APIKey("ada", r.secret)}}, 401},
		"scope":          {url.Values{"apikey": {r.apiKey()}, "scope": {"admin"}}, 403},
		"no token":       {url.Values{"token": {"e30.e30."}}, 401},
		"forged":         {url.Values{"token": {sign(foreign, claims("sub", "ada"))}}, 401},
		"expired":        {url.Values{"token": {sign(r.issuer, claims("exp", now-120))}}, 401},
		"wrong audience": {url.Values{"token": {sign(r.issuer, claims("aud", "other"))}}, 401},
		"wrong issuer":   {url.Values{"token": {sign(r.issuer, claims("iss", "https://example.com"))}}, 401},
		"endless name":   {url.Values{"token": {sign(r.issuer, claims("sub", strings.Repeat("a", 65)))}}, 400},
		"room":           {url.Values{"apikey": {r.apiKey()}, "room": {"../hall"}}, 400},
		"good":           {url.Values{"token": {sign(r.issuer, claims("sub", "ada"))}, "room": {"hall"}}, 101},
	} {
		ws, res, err := r.dial(t, x.query)
		if err == nil {
			ws.CloseNow()
		}
		if res == nil || res.StatusCode != x.status {
			t.Errorf("%s: got %v, %v, want %d", name, res, err, x.status)
		}
	}
}

// Clients that go by the end of the server are told so, and a new one takes them.
func TestRestart(t *testing.T) {
	r := start(t, nil)
	token, addr := r.token(t, "ada"), r.addr
	ada := r.client(t, url.Values{"token": {token}})
	r.close()
	if code := ada.gone(); code != websocket.StatusGoingAway {
		t.Errorf("closed by %d", code)
	}
	r.open(t, addr)
	ada = r.client(t, url.Values{"token": {token}})
	ada.join("hall")
	ada.expect("Joined ada hall", "Present hall [ada]")
}

func TestSite(t *testing.T) {
	r := start(t, nil)
	get := func(method, path, body string, header ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(text)
	}
	for path, kind := range map[string]string{"/": "text/html", "/app.js": "text/javascript", "/style.css": "text/css", "/icon.svg": "image/svg+xml"} {
		res, body := get("GET", path, "")
		if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), kind) || res.Header.Get("Content-Security-Policy") != policy {
			t.Errorf("%s: %s %v", path, res.Status, res.Header)
		}
		for _, foreign := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "onclick=", "https://"} {
			if strings.Contains(body, foreign) {
				t.Errorf("%s has %s", path, foreign)
			}
		}
	}
	if res, _ := get("GET", "/page.go", ""); res.StatusCode != 404 {
		t.Error(res.Status)
	}
	if res, body := get("GET", "/.well-known/jwks.json", ""); res.StatusCode != 200 || !strings.Contains(body, `"OKP"`) || strings.Contains(body, `"d"`) {
		t.Error(res.Status, body)
	}
	for body, status := range map[string]int{
		`{"name":"ada"}`:        200,
		`{"name":"Åsa 🐝"}`:      200,
		`{"name":" Operator "}`: 403, // who shows the API key has that name
		`{"name":" "}`:          400,
		`{"name":"a\u0000"}`:    400,
		`{"name":7}`:            400,
		`name=ada`:              400,
		`{"name":"` + strings.Repeat("a", 33) + `"}`:   400,
		`{"name":"` + strings.Repeat("a", 2000) + `"}`: 400,
	} {
		if res, _ := get("POST", "/login", body); res.StatusCode != status {
			t.Errorf("%.40s: %s", body, res.Status)
		}
	}
	if res, _ := get("POST", "/login", `{"name":"ada"}`, "Sec-Fetch-Site", "cross-site"); res.StatusCode != 403 {
		t.Errorf("from a foreign page: %s", res.Status)
	}
}

func TestListen(t *testing.T) {
	l, err := listen(":0")
	if err != nil || !strings.HasPrefix(l.Addr().String(), "127.0.0.1:") {
		t.Fatal(l, err)
	}
	defer l.Close()
	for addr, want := range map[string]string{
		l.Addr().String(): "address already in use (-addr says where else)",
		"192.0.2.1:0":     "(-addr says where else)",
		"127.0.0.1":       "missing port",
	} {
		if l, err := listen(addr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", addr, l, err)
		}
	}
}

// The command says where it is, and ends when it is told to.
func TestRun(t *testing.T) {
	taken, err := listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().String()
	if err := run(t.Context(), addr, "", false); err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("got %v", err)
	}
	taken.Close()

	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- run(ctx, addr, "", false) }()
	client := http.Client{Timeout: time.Minute}              // it builds
	for tick := time.Tick(10 * time.Millisecond); ; <-tick { // until it listens
		res, err := client.Get("http://" + addr)
		if err == nil {
			res.Body.Close()
			break
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "chat-") }) {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestTableNeedsLocalStack(t *testing.T) {
	t.Setenv("LOCALSTACK_ENDPOINT", "")
	t.Setenv("AWS_ENDPOINT_URL", "")
	l, err := listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	c := newChat(t.TempDir(), io.Discard)
	c.table = "rooms"
	if err := c.start(t.Context(), l); err == nil || !strings.Contains(err.Error(), "make localstack") {
		t.Errorf("got %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it listens: %v", err)
	}
}
