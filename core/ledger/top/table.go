package top

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fogfish/swarm/core/ledger"
)

// Table is all counts of a snapshot as plain text, for people and for awk: a table each of
// what is emitted, what is listened to and of requests.
func Table(s ledger.Snapshot) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	names := slices.Sorted(maps.Keys(s.Kernels))
	table(w, "KERNEL\tEMIT\tACCEPTED\tIN FLIGHT\tDEAD LETTERS\tCONFIRMED\tFAILED\tDROPPED\tUNDELIVERED\tRETRIED\tREFUSED\tOLDEST", func(row rowFunc) {
		for _, name := range names {
			for _, category := range slices.Sorted(maps.Keys(s.Kernels[name].Emit)) {
				c := s.Kernels[name].Emit[category]
				row(name, category, c.Accepted, c.InFlight, c.DeadLetters, c.Confirmed, c.Failed, c.Dropped, c.Undelivered, c.Retried, c.Refused, c.Oldest)
			}
		}
	})
	table(w, "KERNEL\tLISTEN\tRECEIVED\tWAITING\tWORKING\tACKED\tFAILED\tREJECTED\tEXPIRED\tRELEASED\tLEASE LOST\tLOST\tREDELIVERED\tIGNORED\tOLDEST\tLONGEST", func(row rowFunc) {
		for _, name := range names {
			for _, category := range slices.Sorted(maps.Keys(s.Kernels[name].Listen)) {
				c := s.Kernels[name].Listen[category]
				row(name, category, c.Received, c.Waiting, c.Working, c.Acked, c.Failed, c.Rejected, c.Expired, c.Released, c.LeaseLost, c.Lost,
					c.Redelivered, c.Ignored, c.Oldest, c.Longest)
			}
		}
	})
	table(w, "KERNEL\tREQUEST\tCALLS\tOPEN\tERRORS\tMESSAGES\tIN FLIGHT\tSUCCEEDED\tFAILED\tA MESSAGE", func(row rowFunc) {
		for _, name := range names {
			for _, op := range slices.Sorted(maps.Keys(s.Kernels[name].Requests)) {
				c := s.Kernels[name].Requests[op]
				row(name, string(op), c.Calls, c.Open, c.Errors, c.Entries, c.InFlight, c.Succeeded, c.Failed, ratio(c.Calls, c.Entries))
			}
		}
	})
	table(w, "KERNEL\tSTATE\tSETTLING\tUNCONFIRMED\tLEDGER", func(row rowFunc) {
		for _, name := range names {
			k, sum := s.Kernels[name], "adds up"
			if k.Fault != "" {
				sum = strings.ReplaceAll(k.Fault, "\n", "; ")
			}
			row(name, lifeOf(k), k.Settling, k.Unconfirmed, clean(sum))
		}
	})
	_ = w.Flush() // a builder does not fail
	return strings.TrimSuffix(b.String(), "\n")
}

type rowFunc = func(kernel, name string, columns ...any)

// table writes a table that has rows.
func table(w io.Writer, head string, rows func(rowFunc)) {
	some := false
	rows(func(kernel, name string, columns ...any) {
		if !some {
			fmt.Fprintln(w, head)
			some = true
		}
		fmt.Fprintf(w, "%s\t%s", nameOf(kernel), nameOf(name))
		for _, c := range columns {
			if d, ok := c.(time.Duration); ok {
				c = d.Round(time.Millisecond)
			}
			fmt.Fprintf(w, "\t%v", c)
		}
		fmt.Fprintln(w)
	})
	if some {
		fmt.Fprintln(w)
	}
}
