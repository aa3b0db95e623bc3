package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
)

// config is what `freehold.gateway.launch.picker_config` writes.
type config struct {
	GRPC         address      `json:"grpc"`
	HTTP         address      `json:"http"`
	Replicas     int          `json:"replicas"`
	MaxBodyBytes int          `json:"max_body_bytes"`
	Pools        []poolConfig `json:"pools"`
}

type poolConfig struct {
	Name   string `json:"name"`
	Role   string `json:"role"`
	Policy string `json:"policy"`
	// What clients may put in `model`, each with the name that the engine knows it by.
	Served     map[string]string `json:"served"`
	Sources    []source          `json:"sources"`
	Share      *share            `json:"share"`
	HealthPath string            `json:"health_path"`
}

// model is the name that every worker of it knows.
func (p poolConfig) model() string { return p.Served[p.Name] }

// source is where workers are: each address that the host stands for is one. Without a name a worker is
// called by its address.
type source struct {
	Host string `json:"host"`
	Port int    `json:"port"`
	Name string `json:"name"`
}

// share says that requests for the model `Of` whose lot is below `Below` go to `Pool`; to somebody else's
// workers when nil.
type share struct {
	Pool  *string `json:"pool"`
	Below int     `json:"below"`
	Of    string  `json:"of"`
}

// address is `host:port`, written as a pair.
type address string

func (a *address) UnmarshalJSON(data []byte) error {
	var host string
	var port int
	if err := json.Unmarshal(data, &[]any{&host, &port}); err != nil {
		return err
	}
	*a = address(join(host, port))
	return nil
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func load(path string) (*config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found := &config{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields() // what a newer plan asks for must not be passed over
	if err := decoder.Decode(found); err != nil {
		return nil, fmt.Errorf("configuration %s cannot be read: %w", path, err)
	}
	return found, nil
}
