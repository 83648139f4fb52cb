package lambda

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// api serves the Runtime API and the part of the Extensions API by which aws-lambda-go
// asks for SIGTERM.
func (in *instance) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", in.next)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", in.response)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", in.failure)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", in.initFailure)
	mux.HandleFunc("POST /2020-01-01/extension/register", in.register)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", in.extensionNext)
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the process has gone: its end is noticed elsewhere
}

func accept(w http.ResponseWriter) { answer(w, http.StatusAccepted, map[string]string{"status": "OK"}) }

func refuse(w http.ResponseWriter, status int, kind, message string) {
	answer(w, status, FunctionError{Type: kind, Message: message})
}

// next answers when there is an event. It also ends the invocation before.
func (in *instance) next(w http.ResponseWriter, r *http.Request) {
	if !in.finish() {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "the event before has no response")
		return
	}
	var inv *invocation
	select {
	case inv = <-in.events:
	case <-r.Context().Done(): // the process has ended
	}
	in.mu.Lock()
	in.polls--
	if inv == nil {
		in.mu.Unlock()
		return
	}
	in.wake()
	in.open[inv.id] = inv
	cold := ""
	if !in.warm {
		cold = " cold"
	}
	in.mu.Unlock()

	in.rt.count(func(s *Stats) { s.Invocations++ })
	if in.rt.fn.Concurrency == 1 {
		in.out.flush(inv.id)
	}
	in.rt.log.printf("START %s%s", inv.id, cold)
	inv.began = time.Now()
	close(inv.given)

	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.began.Add(in.rt.fn.Timeout).UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", functionARN(in.rt.fn.Region, in.rt.fn.Account, in.rt.fn.Name))
	h.Set("Lambda-Runtime-Trace-Id", inv.traceID)
	for name, v := range map[string]string{"Lambda-Runtime-Client-Context": inv.clientContext, "Lambda-Runtime-Aws-Tenant-Id": inv.tenantID} {
		if v != "" {
			h.Set(name, v)
		}
	}
	_, _ = w.Write(inv.payload) // the process has gone: its end is noticed elsewhere
}

// finish notes that the process asks for an event. One that takes one at a time is done
// with the last: false if it has not answered that.
func (in *instance) finish() bool {
	in.mu.Lock()
	var last *invocation
	if in.rt.fn.Concurrency == 1 {
		for _, last = range in.open {
		}
	}
	in.mu.Unlock()
	if last != nil && !last.isSettled() {
		return false
	}
	if last != nil {
		in.out.flush(in.stream)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if last != nil {
		delete(in.open, last.id)
	}
	in.polls++
	in.rest()
	if last != nil {
		close(last.over)
	}
	if in.readyAfter == 0 {
		in.readyAfter = time.Since(in.made)
		close(in.ready)
	}
	return true
}

// find returns the invocation that the request answers, nil if there is none to answer.
func (in *instance) find(w http.ResponseWriter, r *http.Request) *invocation {
	in.mu.Lock()
	inv := in.open[r.PathValue("id")]
	in.mu.Unlock()
	if inv == nil || inv.isSettled() {
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "no event of this id waits for a response")
		return nil
	}
	return inv
}

// settle records the result. A process that takes several at a time is done with it.
func (in *instance) settle(inv *invocation, response []byte, err error) {
	inv.settle(response, err)
	if in.rt.fn.Concurrency == 1 {
		return
	}
	in.out.flush(in.stream)
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.open[inv.id] == inv {
		delete(in.open, inv.id)
		close(inv.over)
	}
}

func (in *instance) response(w http.ResponseWriter, r *http.Request) {
	inv := in.find(w, r)
	if inv == nil {
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse+1))
	if err != nil {
		return // the process has ended, or is about to, in the middle of it
	}
	if len(body) > maxResponse {
		more, _ := io.Copy(io.Discard, r.Body)
		message := fmt.Sprintf("Response payload size (%d bytes) exceeded maximum allowed payload size (%d bytes).", int64(len(body))+more, maxResponse)
		in.settle(inv, nil, &FunctionError{Type: ErrResponseTooLarge.Type, Message: message})
		refuse(w, http.StatusRequestEntityTooLarge, ErrResponseTooLarge.Type, message)
		return
	}
	// A stream that breaks off says so after the body.
	if kind := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); kind != "" {
		failed := &FunctionError{Type: kind}
		if raw, err := base64.StdEncoding.DecodeString(r.Trailer.Get("Lambda-Runtime-Function-Error-Body")); err == nil {
			failed.Message = functionError(raw).Message
		}
		in.settle(inv, nil, failed)
	} else {
		in.settle(inv, body, nil)
	}
	accept(w)
}

func (in *instance) failure(w http.ResponseWriter, r *http.Request) {
	inv := in.find(w, r)
	if inv == nil {
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse))
	if err != nil {
		return
	}
	in.settle(inv, nil, functionError(body))
	accept(w)
}

func (in *instance) initFailure(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse))
	if err != nil {
		return
	}
	in.mu.Lock()
	in.initErr = functionError(body)
	in.mu.Unlock()
	accept(w)
}

// register knows internal extensions without events: that is how a function asks for
// SIGTERM.
func (in *instance) register(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Events []string `json:"events"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body.Events) > 0 {
		refuse(w, http.StatusBadRequest, "Extension.InvalidEventType", "events of extensions are not emulated")
		return
	}
	in.mu.Lock()
	in.extensions++
	in.mu.Unlock()
	w.Header().Set("Lambda-Extension-Identifier", uuid())
	answer(w, http.StatusOK, map[string]string{"functionName": in.rt.fn.Name, "functionVersion": "$LATEST", "handler": "bootstrap"})
}

// extensionNext blocks: there are no events.
func (in *instance) extensionNext(_ http.ResponseWriter, r *http.Request) {
	in.mu.Lock()
	in.resting++
	in.rest()
	in.mu.Unlock()
	<-r.Context().Done()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.resting--
}
