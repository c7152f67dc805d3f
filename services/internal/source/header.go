package source

import (
	"strings"
	"sync"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// role is what the header of a column says that it holds.
type role uint8

const (
	other        role = iota
	addressRole       // e-mail addresses, for certain
	maybeAddress      // addresses of some kind, or something about mail: the rows decide
	fullName          // a whole name
	anyName           // "Name": a whole name, or the part that another column lacks
	givenName         //
	familyName        //
	familyFirst       // a family name that is written before the given name
	nickname          //
)

// vocabulary holds the headers that list tools and spreadsheets write, by key, so that spelling, case, accents, hyphens,
// underscores and camel case do not matter. Languages: en, de, fr, es, pt, it, nl, sv, fi, pl, ru, ja, zh, ko.
var vocabulary = sync.OnceValue(func() map[string]role {
	headers := make(map[string]role)
	for _, words := range []struct {
		role role
		list string
	}{
		{addressRole, `email; email address; email addresses; e-mail 1 - value; email 1; email id; primary email; contact email;
			work email; user email; member email; subscriber email; your email; mail; mail address; mailaddr;
			E-Mail-Adresse; E-Mail-Adressen; Mailadresse; E-Mail-Anschrift; Ihre E-Mail-Adresse;
			adresse e-mail; adresse mail; adresse électronique; adresse de courriel; adresse courriel; courriel; mél;
			correo; correo electrónico; dirección de correo; dirección de correo electrónico; dirección de email; dirección email;
			endereço de e-mail; e-mail endereço; endereço eletrônico; endereço electrónico; endereço de correio eletrónico;
			correio eletrônico; correio electrónico; indirizzo email; indirizzo e-mail; indirizzo di posta elettronica; posta elettronica;
			e-mailadres; e-post; e-postadress; sähköposti; sähköpostiosoite; почта; электронная почта; адрес электронной почты;
			メール; メールアドレス; Eメール; Eメールアドレス; 電子メール; 電子メールアドレス; Emailアドレス; mailアドレス;
			邮箱; 电子邮件; 电子邮箱; 邮件地址; 電子郵件; 이메일; 이메일 주소`},
		{maybeAddress, `address; addr; adresse; dirección; endereço; indirizzo; アドレス; contact; kontakt; subscriber; recipient; member; user; username; login`},
		{fullName, `display name; full name; real name; member name; subscriber name; contact name; recipient name; name and surname;
			Anzeigename; vollständiger Name; ganzer Name; Vor- und Nachname; Vorname und Nachname; Vorname Nachname;
			nom complet; nom d'affichage; nom affiché; nom et prénom; prénom et nom; nombre completo; nombre y apellidos; nombre para mostrar;
			nome completo; nome de exibição; nome e sobrenome; nome e cognome; volledige naam; 名前; お名前; 氏名; フルネーム; 表示名; 姓名; 이름`},
		{anyName, `name; names; nom; nombre; nome; naam; namn; nimi; imię i nazwisko; имя`},
		{givenName, `first name; given name; forename; fname; firstname; first; Vorname; Rufname; prénom; primer nombre; nombre de pila; nombres; primeiro nome; nome próprio; nomes próprios; voornaam; förnamn; etunimi; imię; 名`},
		{familyName, `last name; family name; surname; lname; last; Nachname; Familienname; Zuname; nom de famille; apellido; apellidos; primer apellido; sobrenome; último nome; apelido; apelidos;
			cognome; achternaam; efternamn; sukunimi; nazwisko; фамилия`},
		{familyFirst, `姓; 苗字; 名字; 氏`},
		{nickname, `nickname; nick; alias; handle; Spitzname; pseudo; pseudonyme; surnom; apodo; soprannome; ニックネーム; 昵称`},
	} {
		for word := range strings.SplitSeq(words.list, ";") {
			headers[key(word)] = words.role
		}
	}
	return headers
})

// mailWords make a column worth looking into: "Email (required)", "What is your e-mail?".
var mailWords = []string{"mail", "courriel", "correo", key("メール")}

func roleOf(header string) role {
	k := key(header)
	if known, ok := vocabulary()[k]; ok {
		return known
	}
	for _, word := range mailWords {
		if strings.Contains(k, word) {
			return maybeAddress
		}
	}
	return other
}

// key leaves of a header its letters and digits, lower-case, without width and accents.
func key(header string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(header))
}
