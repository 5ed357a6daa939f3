import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** A person at a browser, as far as it takes one: cookies, redirects and forms. */
final class Browser {
    private static final Pattern FORM = Pattern.compile("<form [^>]*>");
    private static final Pattern INPUT = Pattern.compile("<input [^>]*>");
    private static final Pattern ATTRIBUTE = Pattern.compile("([\\w-]+)=\"([^\"]*)\"");

    private final HttpClient http = HttpClient.newHttpClient();
    private final Map<String, String> cookies = new LinkedHashMap<>();

    /** Where a browser is: at a form of the issuer with the values that it was given, or back at the application. */
    record Page(String action, Map<String, String> fields, URI back) {}

    Page goes(URI address) throws IOException, InterruptedException {
        return follows(HttpRequest.newBuilder(address));
    }

    /** Sends a form with what is typed into it: names and values in turn. */
    Page sends(Page page, String... typed) throws IOException, InterruptedException {
        if (page.action == null) throw new IOException("there is no form to fill in; the browser is at " + page.back);
        var fields = new LinkedHashMap<>(page.fields);
        for (int i = 0; i < typed.length; i += 2) fields.put(typed[i], typed[i + 1]);
        var body = fields.entrySet().stream()
                .map(field -> encoded(field.getKey()) + "=" + encoded(field.getValue()))
                .collect(Collectors.joining("&"));
        return follows(HttpRequest.newBuilder(URI.create(SignIn.ISSUER + page.action))
                .header("content-type", "application/x-www-form-urlencoded")
                .POST(BodyPublishers.ofString(body)));
    }

    /** Signs the person in, agrees, and answers where the application is called back. */
    URI signsIn(URI address) throws IOException, InterruptedException {
        var page = goes(address);
        if ("/login".equals(page.action)) page = typesThePassword(page);
        if ("/oauth2/consent".equals(page.action)) page = sends(page, "decision", "allow");
        if (page.back == null || !page.back.toString().startsWith(SignIn.CALLBACK.toString())) {
            throw new IOException("the browser is at " + page);
        }
        return page.back;
    }

    /** Connects the device that shows this address. */
    void connects(URI address) throws IOException, InterruptedException {
        sends(typesThePassword(sends(goes(address))), "decision", "allow");
    }

    private Page typesThePassword(Page page) throws IOException, InterruptedException {
        return sends(page, "handle", SignIn.PERSON, "password", SignIn.told("OAUTH_PASSWORD"), "decision", "sign_in");
    }

    private Page follows(HttpRequest.Builder request) throws IOException, InterruptedException {
        for (;;) {
            var answer = asks(request);
            if (answer.statusCode() == 200) return read(answer.body());
            var address = answer.headers().firstValue("location").orElse("");
            if (answer.statusCode() != 303) {
                throw new IOException(answer.uri() + ": " + answer.statusCode() + " " + answer.body());
            }
            if (!address.startsWith(SignIn.ISSUER + "/")) return new Page(null, Map.of(), URI.create(address));
            request = HttpRequest.newBuilder(URI.create(address));
        }
    }

    private HttpResponse<String> asks(HttpRequest.Builder request) throws IOException, InterruptedException {
        var cookie = cookies.entrySet().stream().map(Map.Entry::toString).collect(Collectors.joining("; "));
        if (!cookie.isEmpty()) request.header("cookie", cookie);
        var answer = http.send(request.build(), BodyHandlers.ofString());
        for (var line : answer.headers().allValues("set-cookie")) {
            var pair = line.split(";")[0].split("=", 2);
            cookies.put(pair[0], pair[1]);
        }
        return answer;
    }

    private static Page read(String page) {
        var opening = FORM.matcher(page);
        if (!opening.find()) return new Page(null, Map.of(), null);
        var fields = new LinkedHashMap<String, String>();
        INPUT.matcher(page).results().map(tag -> attributes(tag.group())).forEach(
                input -> fields.put(input.get("name"), input.getOrDefault("value", "")));
        return new Page(attributes(opening.group()).get("action"), fields, null);
    }

    private static Map<String, String> attributes(String tag) {
        return ATTRIBUTE.matcher(tag).results().collect(Collectors.toMap(found -> found.group(1), found -> found.group(2)));
    }

    private static String encoded(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8);
    }
}
