package main

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

// What the picker in Python makes of the same (tests/picker/test_compiled.py writes it).
type vectors struct {
	Bodies []struct {
		Body   string
		Known  map[string]any // what Envoy is told of it; absent where the body is refused
		Served string
		Chain  []string // in hexadecimal, since JSON's numbers are no 64 bits
		Rest   string
	}
	Rounds []struct {
		Replicas int
		InFlight []int `json:"in_flight"`
		Body     string
		Session  string
		Worker   string
		Matched  int
	}
}

func readVectors(t *testing.T) vectors {
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	found := vectors{}
	if err := json.Unmarshal(data, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPrompts(t *testing.T) {
	for _, want := range readVectors(t).Bodies {
		found, ok := read([]byte(want.Body))
		if ok != (want.Known != nil) {
			t.Errorf("%.200s: read %v", want.Body, ok)
			continue
		}
		if !ok {
			continue
		}
		if got, _ := json.Marshal(found.known().AsMap()); string(got) != asJSON(want.Known) {
			t.Errorf("%.200s: known as %s, not %s", want.Body, got, asJSON(want.Known))
		}
		p := promptOf(found, want.Served)
		if len(p.chain) != len(want.Chain) || hex(p.rest) != want.Rest {
			t.Fatalf("%.200s: %d chunks and rest %s, not %d and %s",
				want.Body, len(p.chain), hex(p.rest), len(want.Chain), want.Rest)
		}
		for place, chunk := range p.chain {
			if hex(chunk) != want.Chain[place] {
				t.Fatalf("%.200s: chunk %d is %s, not %s", want.Body, place, hex(chunk), want.Chain[place])
			}
		}
	}
}

func TestPicks(t *testing.T) {
	workers := map[int][]*worker{}
	for number, round := range readVectors(t).Rounds {
		fleet := workers[round.Replicas]
		for place := len(fleet); place < len(round.InFlight); place++ {
			name := strconv.Itoa(place)
			address := "10.0.0." + name + ":80"
			fleet = append(fleet, &worker{pool: "chat", name: name, address: address, up: true, index: newIndex()})
		}
		workers[round.Replicas] = fleet
		for place, count := range round.InFlight {
			fleet[place].inFlight = count
		}
		found, _ := read([]byte(round.Body))
		of := promptOf(found, "chat")
		var got pick
		if round.Session != "" {
			got = bySession(fleet, round.Session, of)
		} else {
			got = byPrefix(fleet, of, round.Replicas)
		}
		if got.worker.name != round.Worker || got.matched != round.Matched {
			t.Fatalf("round %d: %s with %d chunks, not %s with %d",
				number, got.worker.name, got.matched, round.Worker, round.Matched)
		}
		got.worker.index.add(of.chain)
	}
}

func asJSON(value any) string {
	data, _ := json.Marshal(value)
	return string(data)
}

func hex(value uint64) string { return strconv.FormatUint(value, 16) }
