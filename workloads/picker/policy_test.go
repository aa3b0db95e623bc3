package main

import (
	"fmt"
	"strings"
	"testing"
)

// What a pick costs in fleets of 1 to 1,000 workers, beside parsing and hashing: as routing/picks.py measures it
// of the picker in Python. Each worker has read the system prompt and its share of the conversations.
func BenchmarkPick(b *testing.B) {
	for _, size := range []int{4 << 10, 200 << 10} {
		for _, workers := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("%dKB/%d", size>>10, workers), func(b *testing.B) {
				fleet, prompts := readers(workers, size)
				for round := range b.N {
					byPrefix(fleet, prompts[round%len(prompts)], 1)
				}
			})
		}
	}
}

func readers(workers, size int) ([]*worker, []prompt) {
	fleet, prompts := []*worker{}, []prompt{}
	for place := range workers {
		address := fmt.Sprintf("10.0.%d.%d:8000", place/250, place%250)
		fleet = append(fleet, &worker{address: address, up: true, inFlight: place % 3, index: newIndex()})
	}
	system := strings.Repeat("be kind. ", 222)
	for number := range 20 {
		text := system + strings.Repeat(fmt.Sprintf("question %d ", number), (size-len(system))/12)
		found, _ := read(fmt.Appendf(nil, `{"model":"chat","prompt":"%s"}`, text))
		p := promptOf(found, "chat")
		fleet[number%workers].index.add(p.chain[:len(p.chain)-2]) // all but the newest turn
		prompts = append(prompts, p)
	}
	for _, each := range fleet {
		each.index.add(prompts[0].chain[:4])
	}
	return fleet, prompts
}
