package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// Where an application gets its people back, and where they are sent when they have signed out. Nobody listens there: what comes is
// read from the redirect.
const (
	callback = "https://wiki.example.com/callback"
	bye      = "https://wiki.example.com/bye"
)

// client is what the issuer calls an application that has registered.
type client struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
}

// register registers an application (RFC 7591).
func register(ctx context.Context, endpoint string, metadata map[string]any) (client, error) {
	body, err := json.Marshal(metadata)
	if err != nil {
		return client{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return client{}, err
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("OAUTH_REGISTRATION_TOKEN"))
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return client{}, err
	}
	defer answer.Body.Close()
	var made client
	if err := json.NewDecoder(answer.Body).Decode(&made); err != nil || answer.StatusCode != http.StatusCreated {
		return client{}, fmt.Errorf("registration was answered %d: %v", answer.StatusCode, err)
	}
	return made, nil
}

// browser is a browser as far as it takes one: cookies, redirects and forms. Go's own jar would not send cookies for TLS to
// localhost, as browsers do.
type browser struct {
	cookies map[string]string
}

// form is the form of a page, with the values that it was given.
type form struct {
	action string
	fields url.Values
}

// page is where a browser is: at a form of the issuer, or at an address of the application.
type page struct {
	form *form
	back string
}

var (
	formTag  = regexp.MustCompile(`<form [^>]*>`)
	inputTag = regexp.MustCompile(`<input [^>]*>`)
	pair     = regexp.MustCompile(`([\w-]+)="([^"]*)"`)
)

func attributes(tag string) map[string]string {
	found := map[string]string{}
	for _, match := range pair.FindAllStringSubmatch(tag, -1) {
		found[match[1]] = html.UnescapeString(match[2])
	}
	return found
}

func (b *browser) asks(ctx context.Context, method, address string, body url.Values) (page, error) {
	for {
		request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body.Encode()))
		if err != nil {
			return page{}, err
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for name, value := range b.cookies {
			request.AddCookie(&http.Cookie{Name: name, Value: value})
		}
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			return page{}, err
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			return page{}, err
		}
		for _, cookie := range answer.Cookies() {
			b.cookies[cookie.Name] = cookie.Value
		}
		if answer.StatusCode == http.StatusOK {
			return read(string(text)), nil
		}
		if answer.StatusCode != http.StatusSeeOther {
			return page{}, fmt.Errorf("%s: %d %s", address, answer.StatusCode, text)
		}
		method, address, body = http.MethodGet, answer.Header.Get("Location"), nil
		if !strings.HasPrefix(address, issuer+"/") {
			return page{back: address}, nil
		}
	}
}

func read(text string) page {
	opening := formTag.FindString(text)
	if opening == "" {
		return page{}
	}
	found := &form{attributes(opening)["action"], url.Values{}}
	for _, tag := range inputTag.FindAllString(text, -1) {
		input := attributes(tag)
		found.fields.Set(input["name"], input["value"])
	}
	return page{form: found}
}

func (b *browser) goes(ctx context.Context, address string) (page, error) {
	return b.asks(ctx, http.MethodGet, address, nil)
}

// sends sends the form of a page, with what is typed into it.
func (b *browser) sends(ctx context.Context, at page, typed ...string) (page, error) {
	if at.form == nil {
		return page{}, fmt.Errorf("there is no form to fill in; the browser is at %q", at.back)
	}
	for i := 0; i < len(typed); i += 2 {
		at.form.fields.Set(typed[i], typed[i+1])
	}
	return b.asks(ctx, http.MethodPost, issuer+at.form.action, at.form.fields)
}

// signsIn signs the person in, agrees, and answers what the application is called back with.
func (b *browser) signsIn(ctx context.Context, address string) (url.Values, error) {
	at, err := b.goes(ctx, address)
	if err == nil && at.form != nil && at.form.action == "/login" {
		at, err = b.sends(ctx, at, "handle", person, "password", os.Getenv("OAUTH_PASSWORD"), "decision", "sign_in")
	}
	if err == nil && at.form != nil && at.form.action == "/oauth2/consent" {
		at, err = b.sends(ctx, at, "decision", "allow")
	}
	if err != nil {
		return nil, err
	}
	back, err := url.Parse(at.back)
	if err != nil || !strings.HasPrefix(at.back, callback) {
		return nil, fmt.Errorf("the browser is at %q: %v", at.back, err)
	}
	return back.Query(), nil
}

// connects connects the device that shows this address.
func (b *browser) connects(ctx context.Context, address string) error {
	at, err := b.goes(ctx, address)
	if err != nil {
		return err
	}
	for _, typed := range [][]string{
		{},
		{"handle", person, "password", os.Getenv("OAUTH_PASSWORD"), "decision", "sign_in"},
		{"decision", "allow"},
	} {
		if at, err = b.sends(ctx, at, typed...); err != nil {
			return err
		}
	}
	return nil
}
