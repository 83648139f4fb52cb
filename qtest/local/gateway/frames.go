package gateway

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/coder/websocket"
)

// closing says why a connection ends: the code and the reason of its close frame. As an
// error it is a rule that the client has broken.
type closing struct {
	code   websocket.StatusCode
	reason string
}

func (c *closing) Error() string { return fmt.Sprintf("%d %s", c.code, c.reason) }

// What a client may not do, and other ends.
var (
	errAway     = &closing{websocket.StatusGoingAway, "Going away"}
	errDeleted  = &closing{websocket.StatusNormalClosure, "Connection Closed Normally"}
	errLeaving  = &closing{websocket.StatusNoStatusRcvd, "its close frame is being read"}
	errAbnormal = &closing{websocket.StatusAbnormalClosure, "Connection Closed Abnormally"}
	errTooLarge = &closing{websocket.StatusMessageTooBig, "Message too long"}
	errBinary   = &closing{websocket.StatusUnsupportedData, "Binary frames are not supported"}
	errNotUTF8  = &closing{websocket.StatusInvalidFramePayloadData, "Text is not UTF-8"}
	errProtocol = &closing{websocket.StatusProtocolError, "Protocol error"}
)

// frameHeader is what we need of the header of a frame, RFC 6455 section 5.2.
type frameHeader struct {
	opcode      byte
	fin, masked bool
	payload     uint64 // bytes
}

// opClose is the opcode of a close frame.
const opClose = 8

// data says that the frame is a part of a message, not a control frame.
func (h frameHeader) data() bool { return h.opcode < 8 }

// parseFrameHeader reads a header from the beginning of b. It returns its size in bytes,
// at most 14; when that is more than b has, it is not complete: more bytes may even be
// more.
func parseFrameHeader(b []byte) (h frameHeader, size int) {
	if size = 2; len(b) < size {
		return h, size
	}
	h.opcode, h.fin, h.masked = b[0]&0x0f, b[0]&0x80 != 0, b[1]&0x80 != 0
	h.payload = uint64(b[1] & 0x7f)
	switch h.payload {
	case 126:
		if size = 4; len(b) >= size {
			h.payload = uint64(binary.BigEndian.Uint16(b[2:]))
		}
	case 127:
		if size = 10; len(b) >= size {
			h.payload = binary.BigEndian.Uint64(b[2:])
		}
	}
	if h.masked {
		size += 4
	}
	return h, size
}

// frames is the connection of a client. The WebSocket library joins frames to messages, so
// their limits are enforced below it: Read looks at the headers that pass through. Before
// a frame that is not allowed it fails once, with a *closing, and then goes on without
// checks, so that the close handshake can skip what the client has sent.
type frames struct {
	net.Conn
	r        *bufio.Reader
	frame    uint64              // limit of a frame
	limit    uint64              // limit of a message
	active   func(h frameHeader) // called at each frame, before it is read
	left     uint64              // bytes of the current frame, header included
	message  uint64              // bytes of the current message
	violated bool
	broken   atomic.Bool // reading has failed
}

func (f *frames) Read(p []byte) (int, error) {
	if f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n, err := f.r.Read(p[:min(uint64(len(p)), f.left)])
	f.left -= uint64(n)
	if err != nil {
		f.broken.Store(true)
	}
	return n, err
}

// next waits for the header of the next frame, and leaves it to be read.
func (f *frames) next() error {
	var header frameHeader
	size, have := 2, 0
	for have < size {
		b, err := f.r.Peek(size)
		if err != nil {
			f.broken.Store(true)
			return err
		}
		have = size
		header, size = parseFrameHeader(b)
	}
	f.left = uint64(size) + min(header.payload, 1<<62) // no overflow
	if f.violated {
		return nil
	}
	f.active(header)
	err := f.check(header)
	if err == nil {
		return nil
	}
	f.violated = true
	return err
}

func (f *frames) check(h frameHeader) error {
	if !h.masked {
		return errProtocol
	}
	if !h.data() {
		return nil
	}
	if h.payload > f.frame || f.message+h.payload > f.limit {
		return errTooLarge
	}
	if f.message += h.payload; h.fin {
		f.message = 0
	}
	return nil
}

// hijacker gives the WebSocket library a connection that looks at frames.
type hijacker struct {
	http.ResponseWriter
	frames *frames
}

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// The client may have sent frames already, without waiting for our answer.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	rw.Reader.Reset(io.MultiReader(bytes.NewReader(slices.Clone(early)), conn))
	h.frames.Conn, h.frames.r = conn, rw.Reader
	// The buffer that counts is ours.
	return h.frames, bufio.NewReadWriter(bufio.NewReaderSize(h.frames, 256), rw.Writer), nil
}
