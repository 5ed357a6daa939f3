import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.oauth2.sdk.AuthorizationCode;
import com.nimbusds.oauth2.sdk.AuthorizationCodeGrant;
import com.nimbusds.oauth2.sdk.AuthorizationGrant;
import com.nimbusds.oauth2.sdk.AuthorizationRequest;
import com.nimbusds.oauth2.sdk.PushedAuthorizationRequest;
import com.nimbusds.oauth2.sdk.PushedAuthorizationResponse;
import com.nimbusds.oauth2.sdk.RefreshTokenGrant;
import com.nimbusds.oauth2.sdk.ResponseType;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenIntrospectionRequest;
import com.nimbusds.oauth2.sdk.TokenIntrospectionResponse;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.TokenRevocationRequest;
import com.nimbusds.oauth2.sdk.auth.ClientAuthentication;
import com.nimbusds.oauth2.sdk.auth.PrivateKeyJWT;
import com.nimbusds.oauth2.sdk.dpop.DPoPProofFactory;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.http.HTTPResponse;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.State;
import com.nimbusds.oauth2.sdk.pkce.CodeChallengeMethod;
import com.nimbusds.oauth2.sdk.pkce.CodeVerifier;
import com.nimbusds.oauth2.sdk.token.AccessToken;
import com.nimbusds.oauth2.sdk.token.RefreshToken;
import com.nimbusds.oauth2.sdk.token.Token;
import com.nimbusds.openid.connect.sdk.AuthenticationRequest;
import com.nimbusds.openid.connect.sdk.AuthenticationResponseParser;
import com.nimbusds.openid.connect.sdk.Nonce;
import com.nimbusds.openid.connect.sdk.OIDCTokenResponse;
import com.nimbusds.openid.connect.sdk.OIDCTokenResponseParser;
import com.nimbusds.openid.connect.sdk.UserInfoRequest;
import com.nimbusds.openid.connect.sdk.UserInfoResponse;
import com.nimbusds.openid.connect.sdk.op.OIDCProviderMetadata;
import com.nimbusds.openid.connect.sdk.token.OIDCTokens;
import java.net.URI;

/**
 * An application that has registered, and what it asks of the issuer.
 *
 * @param proof what it proves itself by, nothing for a public one
 * @param key   what its tokens are bound to (DPoP), nothing for those that whoever has them may use
 */
record App(OIDCProviderMetadata issuer, ClientID id, Proof proof, DPoPProofFactory key) {
    /** What a browser came back with, and what belongs to it. */
    record Returned(AuthorizationCode code, CodeVerifier verifier, Nonce nonce) {}

    /** How an application proves itself: by the same secret each time, or by an assertion that is new each time. */
    interface Proof {
        ClientAuthentication make() throws Exception;
    }

    /** Another way to prove that one is this application. */
    App proving(Proof other) {
        return new App(issuer, id, other, key);
    }

    /** An assertion that this key has signed. */
    ClientAuthentication assertion(ECKey by) throws Exception {
        var at = issuer.getTokenEndpointURI();
        return new PrivateKeyJWT(id, at, JWSAlgorithm.ES256, by.toPrivateKey(), by.getKeyID(), null);
    }

    App boundTo(DPoPProofFactory other) {
        return new App(issuer, id, proof, other);
    }

    /** Pushes a request, sends the browser away with it, and answers what it came back with. */
    Returned signIn(Browser browser) throws Exception {
        var returned = new Returned(null, new CodeVerifier(), new Nonce());
        var state = new State();
        var request = new AuthenticationRequest.Builder(ResponseType.CODE, SignIn.SCOPE, id, SignIn.CALLBACK)
                .state(state)
                .nonce(returned.nonce)
                .codeChallenge(returned.verifier, CodeChallengeMethod.S256)
                .build();
        var at = issuer.getPushedAuthorizationRequestEndpointURI();
        var push = proof == null
                ? new PushedAuthorizationRequest(at, request)
                : new PushedAuthorizationRequest(at, proof.make(), request);
        var pushed = PushedAuthorizationResponse.parse(send(push.toHTTPRequest(), null));
        if (!pushed.indicatesSuccess()) throw new Exception("pushing: " + pushed.toErrorResponse().getErrorObject());
        var address = new AuthorizationRequest.Builder(pushed.toSuccessResponse().getRequestURI(), id)
                .endpointURI(issuer.getAuthorizationEndpointURI())
                .build()
                .toURI();
        var answer = AuthenticationResponseParser.parse(browser.signsIn(address));
        SignIn.want(state.equals(answer.getState()), "the answer has another state");
        SignIn.want(issuer.getIssuer().equals(answer.getIssuer()), "the answer is another issuer's");
        return new Returned(answer.toSuccessResponse().getAuthorizationCode(), returned.verifier, returned.nonce);
    }

    TokenResponse exchange(AuthorizationCode code, CodeVerifier verifier) throws Exception {
        return token(new AuthorizationCodeGrant(code, SignIn.CALLBACK, verifier), null);
    }

    TokenResponse renew(RefreshToken token) throws Exception {
        return token(new RefreshTokenGrant(token), null);
    }

    TokenResponse token(AuthorizationGrant grant, Scope scope) throws Exception {
        var at = issuer.getTokenEndpointURI();
        var request = proof == null ? new TokenRequest.Builder(at, id, grant) : new TokenRequest.Builder(at, proof.make(), grant);
        var asked = scope == null ? request.build() : request.scope(scope).build();
        return OIDCTokenResponseParser.parse(send(asked.toHTTPRequest(), null));
    }

    /** The tokens of an answer that has an ID token among them. */
    static OIDCTokens tokens(TokenResponse answer) throws Exception {
        if (!answer.indicatesSuccess()) throw new Exception("no tokens: " + answer.toErrorResponse().getErrorObject());
        return ((OIDCTokenResponse) answer.toSuccessResponse()).getOIDCTokens();
    }

    UserInfoResponse userInfo(AccessToken token) throws Exception {
        var request = new UserInfoRequest(issuer.getUserInfoEndpointURI(), token);
        return UserInfoResponse.parse(send(request.toHTTPRequest(), token));
    }

    TokenIntrospectionResponse introspect(Token token) throws Exception {
        var at = issuer.getIntrospectionEndpointURI();
        return TokenIntrospectionResponse.parse(new TokenIntrospectionRequest(at, proof.make(), token).toHTTPRequest().send());
    }

    int revoke(Token token) throws Exception {
        var at = issuer.getRevocationEndpointURI();
        var request = proof == null ? new TokenRevocationRequest(at, id, token) : new TokenRevocationRequest(at, proof.make(), token);
        return request.toHTTPRequest().send().getStatusCode();
    }

    /** Sends a request, with a proof if tokens are bound to a key, and once more with the nonce that the issuer wants in it. */
    private HTTPResponse send(HTTPRequest request, AccessToken with) throws Exception {
        if (key == null) return request.send();
        request.setDPoP(prove(request, with, null));
        var answer = request.send();
        if (answer.getDPoPNonce() == null || answer.indicatesSuccess()) return answer;
        request.setDPoP(prove(request, with, answer.getDPoPNonce()));
        return request.send();
    }

    private SignedJWT prove(HTTPRequest request, AccessToken with, Nonce nonce) throws Exception {
        var method = request.getMethod().name();
        URI at = request.getURI();
        return with == null ? key.createDPoPJWT(method, at, nonce) : key.createDPoPJWT(method, at, with, nonce);
    }
}
