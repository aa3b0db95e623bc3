package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

func TestTheIndexForgetsTheLeastRecentlyUsedAndPromptsFromTheirEnd(t *testing.T) {
	x := newIndex()
	old, new := chainOf(0, 4096), chainOf(1, 4096)
	x.add(old)
	for other := 2; other < capacity/4096; other++ {
		x.add(chainOf(other, 4096))
	}
	x.add(new[:2048])
	if got := x.matched(old); got != 4096 {
		t.Fatalf("%d chunks of the oldest while there is room", got)
	}
	x.add(chainOf(99, 4096)) // half of it finds room, the rest takes the oldest's place
	if got := x.matched(old); got != 2048 {
		t.Fatalf("%d chunks of the oldest are left", got)
	}
	if got := x.matched(new); got != 2048 {
		t.Fatalf("%d chunks of a newer", got)
	}
	if len(x.places) != capacity || len(x.chunks) > capacity+4096 {
		t.Fatalf("%d chunks in %d places", len(x.places), len(x.chunks))
	}
}

func TestTheOrderOfUseIsThatOfAPlainList(t *testing.T) {
	x, plain := newIndex(), []uint64{}
	chance := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		from, length := chance.IntN(8), 1+chance.IntN(40)
		chain := append(chainOf(from/4, length/2), chainOf(from, length)...) // many share a beginning
		x.add(chain)
		for _, chunk := range slices.Backward(chain) {
			plain = slices.DeleteFunc(plain, func(each uint64) bool { return each == chunk })
			plain = append(plain, chunk)
		}
		kept := []uint64{}
		for place := x.oldest; place >= 0; place = x.chunks[place].newer {
			kept = append(kept, x.chunks[place].chunk)
		}
		if !slices.Equal(kept, plain) || len(x.places) != len(plain) {
			t.Fatalf("%d chunks in another order than %d", len(kept), len(plain))
		}
	}
}

func chainOf(prompt, length int) []uint64 {
	chain := make([]uint64, length)
	for place := range chain {
		chain[place] = uint64(prompt*1_000_000+place) * 0x9E3779B97F4A7C15
	}
	return chain
}

// Memory of workers whose indexes hold all they can: loadtests/benchmarks/routing/overhead.py prints it.
func BenchmarkMemory(b *testing.B) {
	for _, workers := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			before := heap()
			kept := make([]*index, workers)
			for place := range kept {
				kept[place] = newIndex()
				for prompt := range 2 * capacity / 4096 {
					kept[place].add(chainOf(1000*place+prompt, 4096))
				}
			}
			b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
			runtime.KeepAlive(kept)
		})
	}
}

func heap() uint64 {
	runtime.GC()
	told := runtime.MemStats{}
	runtime.ReadMemStats(&told)
	return told.HeapAlloc
}
