package kernel

import (
	"crypto/rand"
	"strings"
	"sync"
)

// newPrefix makes the part of message ids that is the kernel's own. The first use of random
// numbers takes a process a tenth of a millisecond: kernels make it when they need it.
func newPrefix() string { return strings.ToLower(rand.Text()[:prefixLength]) }

// idBlock hands out message ids: the prefix of the kernel and a number. The text of a
// block of ids is made at once, and the ids are parts of it.
type idBlock struct {
	text string
}

const (
	idsPerBlock  = 64
	idDigits     = 9 // base 32: 35 bn
	prefixLength = 16
	alphabet     = "0123456789abcdefghijklmnopqrstuv"
)

var idBuffers = sync.Pool{New: func() any { return new([]byte) }}

func (b *idBlock) next(e *Engine) string {
	if b.text == "" {
		b.text = e.newIDs(idsPerBlock)
	}
	n := prefixLength + idDigits
	id := b.text[:n]
	b.text = b.text[n:]
	return id
}

func (b *idBlock) one(e *Engine) string { return e.newIDs(1) }

func (e *Engine) newIDs(n int) string {
	prefix := e.prefix()
	last := e.sequence.Add(uint64(n))
	buf := idBuffers.Get().(*[]byte)
	text := (*buf)[:0]
	for i := last - uint64(n) + 1; i <= last; i++ {
		text = append(text, prefix...)
		for shift := 5 * (idDigits - 1); shift >= 0; shift -= 5 {
			text = append(text, alphabet[i>>shift&31])
		}
	}
	*buf = text
	defer idBuffers.Put(buf)
	return string(text)
}
