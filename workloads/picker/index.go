package main

import "sort"

// 16 MiB of prompt, about 4 million tokens: more than one worker's KV cache. Too big costs nothing but
// memory: with four times the real cache's size hit rates were the same, measured 2026-11-23.
const capacity = 65_536

// index is what a worker's prefix cache probably holds: a set of chunk hashes, the least recently used go
// first. A list in an array, by places, because a list of pointers takes four times the memory.
type index struct {
	places map[uint64]int32
	chunks []link
	free   []int32
	// The least and the most recently used; -1 where there is none.
	oldest, newest int32
}

type link struct {
	chunk        uint64
	older, newer int32
}

func newIndex() *index { return &index{places: map[uint64]int32{}, oldest: -1, newest: -1} }

// matched is the number of chunks, from the beginning, that are in the index. A chunk is never forgotten before
// what follows it (add), so the last one is searched for: by doubling, then by halves.
func (x *index) matched(chain []uint64) int {
	unknown := func(at int) bool {
		_, there := x.places[chain[at]]
		return !there
	}
	end := 1
	for end <= len(chain) && !unknown(end-1) {
		end *= 2
	}
	first := end / 2
	return first + sort.Search(min(end, len(chain))-first, func(at int) bool { return unknown(first + at) })
}

// add puts the last chunk in first, so that a prompt is forgotten from its end: without its beginning the
// rest is of no use. Where the same was added before, each chunk's neighbour by age is the next one, and
// need not be searched for.
func (x *index) add(chain []uint64) {
	next := int32(-1)
	for at := len(chain) - 1; at >= 0; at-- {
		place, there := next, true
		if next < 0 || x.chunks[next].chunk != chain[at] {
			place, there = x.places[chain[at]]
		}
		next = -1
		if there {
			next = x.chunks[place].newer
			x.unlink(place)
		} else {
			place = x.room()
			x.chunks[place].chunk = chain[at]
			x.places[chain[at]] = place
		}
		x.use(place)
	}
	for len(x.places) > capacity {
		place := x.oldest
		delete(x.places, x.chunks[place].chunk)
		x.unlink(place)
		x.free = append(x.free, place)
	}
}

func (x *index) clear() { *x = *newIndex() }

// use makes it the newest.
func (x *index) use(place int32) {
	x.chunks[place].older, x.chunks[place].newer = x.newest, -1
	if x.newest >= 0 {
		x.chunks[x.newest].newer = place
	} else {
		x.oldest = place
	}
	x.newest = place
}

func (x *index) room() int32 {
	if last := len(x.free) - 1; last >= 0 {
		place := x.free[last]
		x.free = x.free[:last]
		return place
	}
	x.chunks = append(x.chunks, link{})
	return int32(len(x.chunks) - 1)
}

func (x *index) unlink(place int32) {
	it := x.chunks[place]
	if it.older >= 0 {
		x.chunks[it.older].newer = it.newer
	} else {
		x.oldest = it.newer
	}
	if it.newer >= 0 {
		x.chunks[it.newer].older = it.older
	} else {
		x.newest = it.older
	}
}
