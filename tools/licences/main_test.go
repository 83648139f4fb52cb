package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bsd is a licence that is short.
const bsd = `Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met: 1. Redistributions of source code must retain the above copyright notice, this list of conditions and
the following disclaimer. 2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and
the following disclaimer in the documentation and/or other materials provided with the distribution. THIS SOFTWARE IS PROVIDED BY
THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE IMPLIED
WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR
CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT
LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED
AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY
WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.`

// zlib is one that is not in our list.
const zlib = `This software is provided 'as-is', without any express or implied warranty. In no event will the authors be held
liable for any damages arising from the use of this software. Permission is granted to anyone to use this software for any purpose,
including commercial applications, and to alter it and redistribute it freely, subject to the following restrictions: 1. The origin
of this software must not be misrepresented; you must not claim that you wrote the original software. If you use this software in a
product, an acknowledgment in the product documentation would be appreciated but is not required. 2. Altered source versions must be
plainly marked as such, and must not be misrepresented as being the original software. 3. This notice may not be removed or altered
from any source distribution.`

// folder has files with texts.
func folder(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLicence(t *testing.T) {
	for _, x := range []struct{ name, dir, licence, want string }{
		{"allowed", folder(t, "LICENSE", bsd), "BSD-2-Clause", ""},
		{"another name", folder(t, "COPYING.md", bsd), "BSD-2-Clause", ""},
		{"two of them", folder(t, "LICENSE", bsd, "LICENSE.txt", zlib), "BSD-2-Clause, Zlib", "the licence Zlib is not allowed"},
		{"unknown", folder(t, "LICENSE", "You may read this on Sundays."), "", "of a licence that is known"},
		{"none", folder(t, "README.md", bsd), "", "no licence"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := checker{out: io.Discard, licences: map[string]string{}}
			if got := c.licence(&module{Path: "example.com/a", Version: "v1.0.0", Dir: x.dir}); got != x.licence {
				t.Errorf("got %q, want %q", got, x.licence)
			}
			wants(t, errors.Join(c.errs...), x.want)
		})
	}
}

func wants(t *testing.T, err error, want string) {
	t.Helper()
	if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestDocumented(t *testing.T) {
	const head = "| module | licence | used by | why |\n| --- | --- | --- | --- |\n"
	for _, x := range []struct{ name, page, want string }{
		{"by its path", "| `example.com/a` | MIT | core | it is good |", ""},
		{"with all below", "| `example.com/...` | MIT | core | it is good |", ""},
		{"not at all", "", "no line for example.com/a"},
		{"without a reason", "| `example.com/a` | MIT | core | |", "no reason"},
		{"by another licence", "| `example.com/a` | ISC | core | it is good |", "has the licence MIT"},
		{"one too many", "| `example.com/a`, `example.com/b` | MIT | core | it is good |", "nothing requires example.com/b"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := checker{lines: parse(head + x.page)}
			c.documented("core", "example.com/a", "MIT")
			c.unused()
			wants(t, errors.Join(c.errs...), x.want)
		})
	}
}
