package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// A harmless request of the picker's own: what every worker of a role can answer at next to no cost. Two
// tokens, so that a stream has a middle.
var questions = map[string]struct {
	path string
	body map[string]any
}{
	"generate": {"/v1/completions", map[string]any{"prompt": "Hello", "max_tokens": 2, "stream": true}},
	"embed":    {"/v1/embeddings", map[string]any{"input": "Hello"}},
	"rerank":   {"/v1/rerank", map[string]any{"query": "Hello", "documents": []string{"Hello"}}},
}

// How the picker itself speaks to engines: over a new connection each time, so that a worker that was killed is not
// asked through one that it still had.
var engines = &http.Client{
	Timeout:       checkTimeout, // an engine that reads a long prompt may keep the rest waiting
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// How the picker's own requests call themselves, in place of a browser.
const pickerAgent = "freehold-picker"

func newRequest(ctx context.Context, method, url string, body io.Reader) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err == nil {
		request.Header.Set("User-Agent", pickerAgent)
	}
	return request, err
}

// ask says whether a worker answers as it should, and how soon.
func ask(ctx context.Context, address, role, model string) answer {
	question := questions[role]
	body := map[string]any{"model": model}
	for name, value := range question.body {
		body[name] = value
	}
	content, _ := json.Marshal(body)
	url := "http://" + address + question.path
	request, err := newRequest(ctx, http.MethodPost, url, bytes.NewReader(content))
	if err != nil {
		return failed
	}
	request.Header.Set("Content-Type", "application/json")
	asked := time.Now()
	response, err := engines.Do(request)
	if err != nil {
		return failed
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	took := answer(time.Since(asked).Seconds())
	switch {
	case err != nil:
		return failed
	case response.StatusCode == http.StatusTooManyRequests, response.StatusCode == http.StatusServiceUnavailable:
		return busy
	case response.StatusCode == http.StatusOK && makesSense(said, role):
		return took
	}
	return failed
}

func makesSense(body []byte, role string) bool {
	if role != "generate" {
		return isObject(body)
	}
	last := []byte{}
	for line := range bytes.Lines(body) {
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 || line[0] == ':' {
			continue // a colon begins a comment, with which a stream is kept open
		}
		data, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok || len(last) > 0 && !isPiece(last) {
			return false
		}
		last = bytes.TrimSpace(data)
	}
	return string(last) == "[DONE]"
}

func isPiece(data []byte) bool {
	piece := map[string]json.RawMessage{}
	if json.Unmarshal(data, &piece) != nil {
		return false
	}
	_, isError := piece["error"]
	return !isError
}

func isObject(data []byte) bool { return json.Unmarshal(data, &map[string]json.RawMessage{}) == nil }
