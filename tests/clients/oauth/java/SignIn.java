import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.jose.proc.BadJOSEException;
import com.nimbusds.oauth2.sdk.ClientCredentialsGrant;
import com.nimbusds.oauth2.sdk.GrantType;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.auth.ClientAuthenticationMethod;
import com.nimbusds.oauth2.sdk.auth.ClientSecretBasic;
import com.nimbusds.oauth2.sdk.auth.ClientSecretPost;
import com.nimbusds.oauth2.sdk.device.DeviceAuthorizationRequest;
import com.nimbusds.oauth2.sdk.device.DeviceAuthorizationResponse;
import com.nimbusds.oauth2.sdk.device.DeviceCodeGrant;
import com.nimbusds.oauth2.sdk.dpop.DefaultDPoPProofFactory;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.id.State;
import com.nimbusds.oauth2.sdk.pkce.CodeVerifier;
import com.nimbusds.oauth2.sdk.token.AccessTokenType;
import com.nimbusds.oauth2.sdk.token.BearerAccessToken;
import com.nimbusds.openid.connect.sdk.LogoutRequest;
import com.nimbusds.openid.connect.sdk.Nonce;
import com.nimbusds.openid.connect.sdk.op.OIDCProviderMetadata;
import com.nimbusds.openid.connect.sdk.rp.OIDCClientInformationResponse;
import com.nimbusds.openid.connect.sdk.rp.OIDCClientMetadata;
import com.nimbusds.openid.connect.sdk.rp.OIDCClientRegistrationRequest;
import com.nimbusds.openid.connect.sdk.rp.OIDCClientRegistrationResponseParser;
import com.nimbusds.openid.connect.sdk.validators.AccessTokenValidator;
import com.nimbusds.openid.connect.sdk.validators.IDTokenValidator;
import java.net.URI;
import java.util.List;
import java.util.Set;

/**
 * An application that signs people in with flaghoist's accounts, by Nimbus' SDK, on which Spring Security's client stands too: it
 * registers itself, goes through the code flow with PKCE and pushed requests, checks the ID token, asks userinfo, renews, asks about
 * tokens and gives them back, signs out; connects a device; gets tokens of its own; and binds tokens to a key where the issuer can.
 * Every step is checked and printed; the first one that goes wrong ends the program.
 */
public final class SignIn {
    static final String ISSUER = told("OAUTH_ISSUER");
    static final String PERSON = told("OAUTH_PERSON");
    static final URI CALLBACK = URI.create("https://wiki.example.com/callback");
    static final URI BYE = URI.create("https://wiki.example.com/bye");
    static final Scope SCOPE = new Scope("openid", "profile", "offline_access");

    private static OIDCProviderMetadata issuer;

    public static void main(String[] arguments) {
        try {
            issuer = OIDCProviderMetadata.resolve(new Issuer(ISSUER));
            ok("found the issuer");
            signIn(ClientAuthenticationMethod.NONE, JWSAlgorithm.ES256);
            signIn(ClientAuthenticationMethod.CLIENT_SECRET_BASIC, JWSAlgorithm.RS256);
            signIn(ClientAuthenticationMethod.CLIENT_SECRET_POST, JWSAlgorithm.ES256);
            signIn(ClientAuthenticationMethod.PRIVATE_KEY_JWT, JWSAlgorithm.RS256);
            connectADevice();
            workWithoutAPerson();
            proveWhoseTokensTheyAre();
        } catch (Exception failure) {
            System.err.println("not ok - java: " + failure);
            failure.printStackTrace();
            System.exit(1);
        }
    }

    /** What `tests/clients/run` says by the environment. */
    static String told(String name) {
        var value = System.getenv(name);
        if (value == null) throw new IllegalStateException(name + " is not set: start this by tests/clients/run");
        return value;
    }

    private static void ok(String step) {
        System.out.println("ok - java: " + step);
    }

    /** Ends the program with `otherwise` unless what is claimed is so. */
    static void want(boolean so, String otherwise) throws Exception {
        if (!so) throw new Exception(otherwise);
    }

    /** Ends the program unless the issuer has answered by one of these errors. */
    private static void refused(TokenResponse answer, String otherwise, String... codes) throws Exception {
        want(!answer.indicatesSuccess(), otherwise);
        var error = answer.toErrorResponse().getErrorObject();
        want(List.of(codes).contains(error.getCode()), otherwise + ", or nearly: " + error.getCode());
    }

    private static App register(OIDCClientMetadata metadata, ClientAuthenticationMethod method, ECKey key) throws Exception {
        metadata.setTokenEndpointAuthMethod(method);
        if (key != null) metadata.setJWKSet(new JWKSet(key.toPublicJWK()));
        var token = new BearerAccessToken(told("OAUTH_REGISTRATION_TOKEN"));
        var request = new OIDCClientRegistrationRequest(issuer.getRegistrationEndpointURI(), metadata, token);
        var answer = OIDCClientRegistrationResponseParser.parse(request.toHTTPRequest().send());
        want(answer.indicatesSuccess(), "the application was not registered");
        var made = ((OIDCClientInformationResponse) answer).getOIDCClientInformation();
        var app = new App(issuer, made.getID(), null, null);
        if (key != null) return app.proving(() -> app.assertion(key));
        if (method.equals(ClientAuthenticationMethod.CLIENT_SECRET_BASIC)) {
            return app.proving(() -> new ClientSecretBasic(made.getID(), made.getSecret()));
        }
        if (method.equals(ClientAuthenticationMethod.CLIENT_SECRET_POST)) {
            return app.proving(() -> new ClientSecretPost(made.getID(), made.getSecret()));
        }
        return app;
    }

    private static OIDCClientMetadata wiki(JWSAlgorithm algorithm) {
        var metadata = new OIDCClientMetadata();
        metadata.setName("Wiki");
        metadata.setRedirectionURI(CALLBACK);
        metadata.setPostLogoutRedirectionURIs(Set.of(BYE));
        metadata.setScope(SCOPE);
        metadata.setGrantTypes(Set.of(GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN));
        metadata.setIDTokenJWSAlg(algorithm);
        return metadata;
    }

    /** Signs a person in to an application that proves itself by this method, from the first address to the last. */
    private static void signIn(ClientAuthenticationMethod method, JWSAlgorithm algorithm) throws Exception {
        var key = method.equals(ClientAuthenticationMethod.PRIVATE_KEY_JWT) ? key() : null;
        var app = register(wiki(algorithm), method, key);
        var browser = new Browser();
        var returned = app.signIn(browser);
        var tokens = App.tokens(app.exchange(returned.code(), returned.verifier()));
        var validator = new IDTokenValidator(issuer.getIssuer(), app.id(), algorithm, issuer.getJWKSetURI().toURL());
        var claims = validator.validate(tokens.getIDToken(), returned.nonce());
        AccessTokenValidator.validate(tokens.getAccessToken(), algorithm, claims.getAccessTokenHash());
        try {
            validator.validate(tokens.getIDToken(), new Nonce());
            throw new Exception("any nonce is good");
        } catch (BadJOSEException expected) {
            want(expected.getMessage().contains("nonce"), "another nonce was refused for another reason: " + expected);
        }
        var said = app.userInfo(tokens.getAccessToken()).toSuccessResponse().getUserInfo();
        want(said.getPreferredUsername().equals(PERSON) && said.getSubject().equals(claims.getSubject()), "userinfo is about another");
        ok(method + ": signed in by a pushed request and a code with PKCE; the ID token is good (" + algorithm + ")");

        var renewed = App.tokens(app.renew(tokens.getRefreshToken()));
        want(!renewed.getRefreshToken().equals(tokens.getRefreshToken()), "the refresh token was not exchanged");
        if (app.proof() != null) {
            var about = app.introspect(renewed.getAccessToken()).toSuccessResponse();
            want(about.isActive() && about.getSubject().equals(claims.getSubject()), "introspection is about another");
        }
        ok(method + ": renewed the tokens");

        var wrong = app.signIn(browser);
        refused(app.exchange(wrong.code(), new CodeVerifier()), "another verifier was accepted", "invalid_grant");
        var twice = app.signIn(browser);
        var given = App.tokens(app.exchange(twice.code(), twice.verifier()));
        refused(app.exchange(twice.code(), twice.verifier()), "a code was exchanged twice", "invalid_grant");
        refused(app.renew(given.getRefreshToken()), "what a replayed code gave is good still", "invalid_grant");
        var last = app.signIn(browser);
        var back = App.tokens(app.exchange(last.code(), last.verifier())).getRefreshToken();
        want(app.revoke(back) == 200, "a token could not be given back");
        refused(app.renew(back), "a token that was given back is renewed still", "invalid_grant");
        ok(method + ": refused another nonce, another verifier, a code brought twice, and a token given back");

        var out = new LogoutRequest(issuer.getEndSessionEndpointURI(), renewed.getIDToken(), BYE, new State("later"));
        var left = browser.goes(out.toURI()).back();
        want(URI.create(BYE + "?state=later").equals(left), "after signing out the browser is at " + left);
        refused(app.renew(renewed.getRefreshToken()), "the session was renewed after its end", "invalid_grant");
        want(!app.userInfo(renewed.getAccessToken()).indicatesSuccess(), "the access token outlives the session");
        ok(method + ": signed out");
    }

    private static void connectADevice() throws Exception {
        var metadata = new OIDCClientMetadata();
        metadata.setName("Television");
        metadata.setScope(SCOPE);
        metadata.setGrantTypes(Set.of(GrantType.DEVICE_CODE, GrantType.REFRESH_TOKEN));
        var app = register(metadata, ClientAuthenticationMethod.NONE, null);
        var request = new DeviceAuthorizationRequest(issuer.getDeviceAuthorizationEndpointURI(), app.id(), SCOPE);
        var device = DeviceAuthorizationResponse.parse(request.toHTTPRequest().send()).toSuccessResponse();
        var grant = new DeviceCodeGrant(device.getDeviceCode());
        refused(app.token(grant, null), "a device got tokens before anybody agreed", "authorization_pending");
        new Browser().connects(device.getVerificationURIComplete());
        Thread.sleep((device.getInterval() + 1) * 1000);
        var tokens = App.tokens(app.token(grant, null));
        var said = app.userInfo(tokens.getAccessToken()).toSuccessResponse().getUserInfo();
        want(said.getPreferredUsername().equals(PERSON), "userinfo is about another");
        ok("connected a device");
    }

    private static void workWithoutAPerson() throws Exception {
        var read = new Scope("chat.read");
        var key = key();
        for (var method : List.of(ClientAuthenticationMethod.CLIENT_SECRET_POST, ClientAuthenticationMethod.PRIVATE_KEY_JWT)) {
            var metadata = new OIDCClientMetadata();
            metadata.setName("Nightly job");
            metadata.setScope(new Scope("chat.read", "chat.send"));
            metadata.setGrantTypes(Set.of(GrantType.CLIENT_CREDENTIALS));
            var signs = method.equals(ClientAuthenticationMethod.PRIVATE_KEY_JWT);
            var app = register(metadata, method, signs ? key : null);
            var answer = app.token(new ClientCredentialsGrant(), read);
            want(answer.indicatesSuccess(), "a program got no tokens");
            var given = answer.toSuccessResponse().getTokens().getAccessToken();
            want(read.equals(given.getScope()), "a program may more than it asked for");
            if (signs) {
                var assertion = app.assertion(key);
                var again = app.proving(() -> assertion);
                want(again.token(new ClientCredentialsGrant(), read).indicatesSuccess(), "an assertion is not good once");
                refused(again.token(new ClientCredentialsGrant(), read), "an assertion was good twice", "invalid_client");
                var other = key();
                var forger = app.proving(() -> app.assertion(other));
                refused(forger.token(new ClientCredentialsGrant(), read), "another's signature was accepted", "invalid_client");
            }
        }
        ok("got tokens of its own by a secret and by a signature; an assertion is good once");
    }

    private static void proveWhoseTokensTheyAre() throws Exception {
        var offered = issuer.getDPoPJWSAlgs();
        want(offered != null && offered.contains(JWSAlgorithm.ES256), "the metadata does not offer DPoP");
        var registered = register(wiki(JWSAlgorithm.RS256), ClientAuthenticationMethod.NONE, null);
        var app = registered.boundTo(new DefaultDPoPProofFactory(key(), JWSAlgorithm.ES256));
        var thief = registered.boundTo(new DefaultDPoPProofFactory(key(), JWSAlgorithm.ES256));
        var returned = app.signIn(new Browser());
        var tokens = App.tokens(app.exchange(returned.code(), returned.verifier()));
        want(tokens.getAccessToken().getType().equals(AccessTokenType.DPOP), "the access token is for whoever has it");
        want(app.userInfo(tokens.getAccessToken()).indicatesSuccess(), "a proof did not open userinfo");
        want(!thief.userInfo(tokens.getAccessToken()).indicatesSuccess(), "another key opened userinfo");
        var bearer = new BearerAccessToken(tokens.getAccessToken().getValue());
        want(!registered.userInfo(bearer).indicatesSuccess(), "a bound token was taken without a proof");
        refused(thief.renew(tokens.getRefreshToken()), "another key renewed the tokens", "invalid_grant", "invalid_dpop_proof");
        ok("tokens are bound to a key (DPoP)");
    }

    private static ECKey key() throws Exception {
        return new ECKeyGenerator(Curve.P_256).keyID("one").generate();
    }
}
