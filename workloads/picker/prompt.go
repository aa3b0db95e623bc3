package main

import (
	"bytes"
	"encoding/json"
	"io"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/zeebo/xxh3"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	// 256 characters are about 64 tokens, four of vLLM's blocks: fine enough to tell documents apart, coarse
	// enough that 200 KB are 800 hashes.
	chunkBytes = 256
	// One MiB, about 250,000 tokens: longer prompts than that share or differ long before their end.
	maxChunks = 4096
)

// What engines put into the prompt, in the order in which chat templates do: tools, then the system message,
// then the rest. One endpoint's body has some of them.
var parts = [...]string{
	"tools", "system", "instructions",
	"messages", "prompt", "input",
	"query", "text_1", "queries", "documents", "text_2", "items",
}

// body is what matters of a request's JSON object; of several equal keys the last, as in the engine.
type body struct {
	model, salt     string
	stream, options jsontext.Value
	parts           [len(parts)]jsontext.Value
}

// known is what Envoy's filters go by, as Envoy's own parser would tell it.
func (b body) known() *structpb.Struct {
	found := map[string]*structpb.Value{modelKey: structpb.NewStringValue(b.model)}
	put := func(name string, value jsontext.Value) {
		var of any
		if json.Unmarshal(value, &of) != nil {
			return
		}
		switch of.(type) {
		case bool, float64, string:
			found[name], _ = structpb.NewValue(of)
		}
	}
	put(streamKey, b.stream)
	options := map[string]json.RawMessage{} // a struct would take INCLUDE_USAGE as well, which engines do not
	if json.Unmarshal(b.options, &options) == nil {
		put(usageAskedKey, jsontext.Value(options["include_usage"]))
	}
	return &structpb.Struct{Fields: found}
}

// read takes the body apart, or returns false: what is wrong with it is Envoy's to say. It checks all of it,
// depth and characters included.
func read(data []byte) (body, bool) {
	found := body{}
	from := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true))
	if token, err := from.ReadToken(); err != nil || token.Kind() != '{' {
		return found, false
	}
	for from.PeekKind() == '"' {
		token, err := from.ReadToken()
		if err != nil {
			return found, false
		}
		name := token.String()
		value, err := from.ReadValue()
		if err != nil {
			return found, false
		}
		found.keep(name, value)
	}
	if token, err := from.ReadToken(); err != nil || token.Kind() != '}' {
		return found, false
	}
	_, err := from.ReadToken()
	return found, err == io.EOF && found.model != ""
}

// keep notes one property. The decoder reads from `data` itself, so that values stay.
func (b *body) keep(name string, value jsontext.Value) {
	switch name {
	case "model":
		b.model = text(value)
	case "cache_salt":
		b.salt = text(value)
	case "stream":
		b.stream = value
	case "stream_options":
		b.options = value
	default:
		for place, part := range parts {
			if part == name {
				b.parts[place] = value
			}
		}
	}
}

// text is empty where the value is no string.
func text(value jsontext.Value) string {
	if value.Kind() != '"' {
		return ""
	}
	found, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return ""
	}
	return string(found)
}

// prompt is the chain of hashes that stands for a prompt: chain[i] for the first i+1 chunks, rest for what
// follows the last whole chunk.
type prompt struct {
	chain []uint64
	rest  uint64
}

// keyAfter is the hash of the first chunk after `matched` ones: what sets this prompt apart from others that
// share them.
func (p prompt) keyAfter(matched int) uint64 {
	if matched < len(p.chain) {
		return p.chain[matched]
	}
	return p.rest
}

// wholes are used again: what long prompts leave behind would be collected every few requests.
var wholes = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// promptOf takes everything the engine will read, as JSON, cut in chunks and hashed one upon the other.
//
// JSON instead of the rendered template: a conversation that grows keeps its beginning, and no tokenizer is
// needed. Space between tokens and ways to escape a character make no difference. Caches are apart by model
// (an adapter has its own) and by `cache_salt`, so the chain starts from both.
func promptOf(b body, servedModel string) prompt {
	seed := xxh3.HashString(servedModel + "\x00" + b.salt)
	length := 0
	for _, part := range b.parts {
		length += len(part)
	}
	kept := wholes.Get().(*bytes.Buffer)
	defer wholes.Put(kept)
	kept.Grow(length)
	whole := kept.AvailableBuffer()
	for _, part := range b.parts {
		if part != nil {
			whole = plain(whole, part)
		}
	}
	chunks := min(len(whole)/chunkBytes, maxChunks)
	chain := make([]uint64, chunks)
	for place := range chain {
		seed = xxh3.HashSeed(whole[place*chunkBytes:(place+1)*chunkBytes], seed)
		chain[place] = seed
	}
	rest := whole[chunks*chunkBytes : min((chunks+1)*chunkBytes, len(whole))]
	return prompt{chain, xxh3.HashSeed(rest, seed)}
}

// plain appends a value without the space between its tokens, and with each character written in one way.
func plain(to []byte, value []byte) []byte {
	for {
		quote := bytes.IndexByte(value, '"')
		if quote < 0 {
			return tight(to, value)
		}
		end := quote + endOfString(value[quote:])
		to = characters(tight(to, value[:quote]), value[quote:end])
		value = value[end:]
	}
}

func tight(to []byte, tokens []byte) []byte {
	for _, each := range tokens {
		if each > ' ' {
			to = append(to, each)
		}
	}
	return to
}

// endOfString is where the string at the beginning has ended: after a quote that no backslash escapes.
func endOfString(value []byte) int {
	end := 1
	for {
		end += bytes.IndexByte(value[end:], '"') + 1
		before := bytes.TrimRight(value[:end-1], `\`)
		if (end-1-len(before))%2 == 0 {
			return end
		}
	}
}

// characters appends a string; what could be written in another way is written anew.
func characters(to []byte, quoted []byte) []byte {
	if !bytes.Contains(quoted, []byte(`\u`)) && !bytes.Contains(quoted, []byte(`\/`)) {
		return append(to, quoted...)
	}
	unquoted, _ := jsontext.AppendUnquote(nil, quoted) // it was read before
	to, _ = jsontext.AppendQuote(to, unquoted)
	return to
}
