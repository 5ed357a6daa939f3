// An application that signs people in with flaghoist's accounts, by golang.org/x/oauth2 and coreos/go-oidc: the code flow with PKCE,
// the ID token checked against the published keys, userinfo, a refresh, signing out; a device; and a program's own tokens. Every
// step is checked and printed; the first one that goes wrong ends the program.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const patience = time.Minute

var (
	issuer = os.Getenv("OAUTH_ISSUER")
	person = os.Getenv("OAUTH_PERSON")
)

// endpoints are what go-oidc does not read of the metadata itself.
type endpoints struct {
	Registration string `json:"registration_endpoint"`
	EndSession   string `json:"end_session_endpoint"`
}

func ok(step string) { fmt.Println("ok - go:", step) }

// refused says what is wrong unless err is the issuer's own answer code.
func refused(err error, code, otherwise string) error {
	var answered *oauth2.RetrieveError
	if errors.As(err, &answered) && answered.ErrorCode == code {
		return nil
	}
	return fmt.Errorf("%s: %v", otherwise, err)
}

func main() {
	ctx, done := context.WithTimeout(context.Background(), patience)
	defer done()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "not ok - go:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return err
	}
	var more endpoints
	if err := provider.Claims(&more); err != nil {
		return err
	}
	ok("found the issuer")
	for _, method := range []string{"none", "client_secret_basic", "client_secret_post"} {
		if err := signIn(ctx, provider, more, method); err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
	}
	if err := connectADevice(ctx, provider, more); err != nil {
		return err
	}
	return workWithoutAPerson(ctx, provider, more)
}

// signIn signs a person in to an application that proves itself by this method, from the first address to the last.
func signIn(ctx context.Context, provider *oidc.Provider, more endpoints, method string) error {
	algorithm := map[string]string{"none": oidc.EdDSA, "client_secret_basic": oidc.RS256, "client_secret_post": oidc.ES256}[method]
	made, err := register(ctx, more.Registration, map[string]any{
		"client_name": "Wiki", "redirect_uris": []string{callback}, "post_logout_redirect_uris": []string{bye},
		"scope": "openid profile offline_access", "grant_types": []string{"authorization_code", "refresh_token"},
		"token_endpoint_auth_method": method, "id_token_signed_response_alg": algorithm,
	})
	if err != nil {
		return err
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if method != "client_secret_basic" {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	app := oauth2.Config{
		ClientID: made.ID, ClientSecret: made.Secret, Endpoint: endpoint, RedirectURL: callback,
		Scopes: []string{oidc.ScopeOpenID, "profile", oidc.ScopeOfflineAccess},
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: made.ID, SupportedSigningAlgs: []string{algorithm}})
	browser := &browser{map[string]string{}}
	// goes sends the browser away and back, with the code that it then has.
	goes := func(secret, nonce string) (string, error) {
		state := rand.Text()
		address := app.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(secret))
		came, err := browser.signsIn(ctx, address)
		if err == nil && (came.Get("state") != state || came.Get("iss") != issuer) {
			err = fmt.Errorf("the answer is another's: %v", came)
		}
		return came.Get("code"), err
	}

	secret, nonce := oauth2.GenerateVerifier(), rand.Text()
	code, err := goes(secret, nonce)
	if err != nil {
		return err
	}
	tokens, err := app.Exchange(ctx, code, oauth2.VerifierOption(secret))
	if err != nil {
		return err
	}
	raw, _ := tokens.Extra("id_token").(string)
	said, err := verifier.Verify(ctx, raw)
	if err != nil {
		return err
	}
	if err := said.VerifyAccessToken(tokens.AccessToken); err != nil || said.Nonce != nonce {
		return fmt.Errorf("the ID token is about others (nonce %s): %v", said.Nonce, err)
	}
	for _, other := range []oidc.Config{
		{ClientID: "another", SupportedSigningAlgs: []string{algorithm}},
		{ClientID: made.ID, SupportedSigningAlgs: []string{oidc.PS512}},
		{ClientID: made.ID, SupportedSigningAlgs: []string{algorithm}, Now: func() time.Time { return said.Expiry.Add(time.Second) }},
	} {
		if _, err := provider.Verifier(&other).Verify(ctx, raw); err == nil {
			return errors.New("an ID token is good for anybody, or forever")
		}
	}
	info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil {
		return err
	}
	var names struct {
		Handle string `json:"preferred_username"`
	}
	if err := info.Claims(&names); err != nil || names.Handle != person || info.Subject != said.Subject {
		return fmt.Errorf("userinfo is about %s %s: %v", names.Handle, info.Subject, err)
	}
	ok(method + ": signed in by a code with PKCE; the ID token is good (" + algorithm + "), and userinfo says who it is")

	old := *tokens
	old.Expiry = time.Now().Add(-time.Minute)
	renewed, err := app.TokenSource(ctx, &old).Token()
	if err != nil || renewed.RefreshToken == tokens.RefreshToken || renewed.AccessToken == tokens.AccessToken {
		return fmt.Errorf("the tokens were not renewed: %v", err)
	}
	ok(method + ": renewed the tokens")

	wrong, err := goes(secret, nonce)
	if err != nil {
		return err
	}
	_, err = app.Exchange(ctx, wrong, oauth2.VerifierOption(oauth2.GenerateVerifier()))
	if err := refused(err, "invalid_grant", "another verifier was accepted"); err != nil {
		return err
	}
	_, err = app.Exchange(ctx, wrong, oauth2.VerifierOption(secret))
	if err := refused(err, "invalid_grant", "a code that was brought wrongly is still good"); err != nil {
		return err
	}
	if code, err = goes(secret, nonce); err != nil {
		return err
	}
	_, err = app.Exchange(ctx, code)
	if err := refused(err, "invalid_grant", "no verifier was needed"); err != nil {
		return err
	}
	ok(method + ": refused another verifier and none")

	hint := url.Values{"id_token_hint": {raw}, "post_logout_redirect_uri": {bye}, "state": {"later"}}
	out, err := browser.goes(ctx, more.EndSession+"?"+hint.Encode())
	if err != nil || out.back != bye+"?state=later" {
		return fmt.Errorf("after signing out the browser is at %q: %v", out.back, err)
	}
	if _, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(renewed)); err == nil {
		return errors.New("the access token outlives the session")
	}
	renewed.Expiry = old.Expiry
	_, err = app.TokenSource(ctx, renewed).Token()
	if err := refused(err, "invalid_grant", "the session was renewed after its end"); err != nil {
		return err
	}
	ok(method + ": signed out")
	return nil
}

func connectADevice(ctx context.Context, provider *oidc.Provider, more endpoints) error {
	made, err := register(ctx, more.Registration, map[string]any{
		"client_name": "Television", "scope": "openid profile", "token_endpoint_auth_method": "none",
		"grant_types": []string{"urn:ietf:params:oauth:grant-type:device_code", "refresh_token"},
	})
	if err != nil {
		return err
	}
	app := oauth2.Config{ClientID: made.ID, Endpoint: provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID, "profile"}}
	device, err := app.DeviceAuth(ctx)
	if err != nil {
		return err
	}
	// The person takes their time: the device has asked once in vain by then.
	failed := make(chan error, 1)
	go func() {
		time.Sleep(time.Duration(device.Interval+1) * time.Second)
		failed <- (&browser{map[string]string{}}).connects(ctx, device.VerificationURIComplete)
	}()
	tokens, err := app.DeviceAccessToken(ctx, device)
	if err := errors.Join(err, <-failed); err != nil {
		return err
	}
	raw, _ := tokens.Extra("id_token").(string)
	if _, err := provider.Verifier(&oidc.Config{ClientID: made.ID}).Verify(ctx, raw); err != nil {
		return err
	}
	ok("connected a device")
	return nil
}

func workWithoutAPerson(ctx context.Context, provider *oidc.Provider, more endpoints) error {
	made, err := register(ctx, more.Registration, map[string]any{
		"client_name": "Nightly job", "scope": "chat.read chat.send", "grant_types": []string{"client_credentials"},
	})
	if err != nil {
		return err
	}
	app := clientcredentials.Config{
		ClientID: made.ID, ClientSecret: made.Secret, TokenURL: provider.Endpoint().TokenURL, Scopes: []string{"chat.read"},
		AuthStyle: oauth2.AuthStyleInHeader,
	}
	tokens, err := app.Token(ctx)
	if err != nil {
		return err
	}
	if scope, _ := tokens.Extra("scope").(string); scope != "chat.read" {
		return fmt.Errorf("the program may %q", scope)
	}
	keys := oidc.NewRemoteKeySet(ctx, issuer+"/oauth2/jwks")
	access := oidc.NewVerifier(issuer, keys, &oidc.Config{ClientID: "flaghoist", SupportedSigningAlgs: []string{oidc.EdDSA}})
	if said, err := access.Verify(ctx, tokens.AccessToken); err != nil || !slices.Contains(said.Audience, "flaghoist") {
		return fmt.Errorf("the access token is not one of the issuer's: %v", err)
	}
	app.ClientSecret = "wrong"
	_, err = app.Token(ctx)
	if err := refused(err, "invalid_client", "another secret was accepted"); err != nil {
		return err
	}
	app.ClientSecret, app.Scopes = made.Secret, []string{"admin"}
	_, err = app.Token(ctx)
	if err := refused(err, "invalid_scope", "a program may have any scope"); err != nil {
		return err
	}
	ok("got tokens of its own; another secret and another scope are refused")
	return nil
}
