"""Words and word lists that retrieval and analysis share.

Every pattern here and in the modules beside it scans its text once: no pattern backtracks over what it has read.
"""

import re


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Separators never belong to a word, so a match has one way only.
_WORD = re.compile(r"[^\W_]+(?:['\-][^\W_]+)*")
# Scripts written without spaces: their runs are cut into pairs of characters.
_UNSPACED_RUN = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿]+|[^぀-ヿ㐀-䶿一-鿿豈-﫿]+")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？])|\n\s*\n")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ABBREVIATIONS = word_set(
    "dr mr mrs ms prof st no vs etc inc ltd jr sr e.g i.e cf approx fig z.b d.h bzw ca nr usw hr fr m mme sra"
)

# The commonest words, by ISO 639-1 code: they tell languages apart, and say nothing about what a text is about.
STOP_WORDS: dict[str, frozenset[str]] = {
    code: word_set(text)
    for code, text in {
        "en": "a about after all also am an and any are as at be because been before being but by can could did do "
        "does don't for from had has have he her him his how i if in into is it its just like may me more most "
        "must my no not now of off on only or other our out over she should so some such than that the their "
        "them then there these they this those through to too under up us very was we were what when where "
        "which while who why will with would you your hello thanks",
        "de": "aber alle als also am an auch auf aus bei bin bis das dass dem den der des die doch du durch ein eine "
        "einem einen einer eines er es für gegen haben hat hatte ich ihr im in ist ja jede kann kein keine man "
        "mehr mein mich mir mit nach nicht noch nur oder ohne schon sehr sein seine sich sie sind so über um "
        "und uns unter von vor war waren was weil wenn werden wie wir wird wo zu zum zur hallo danke",
        "fr": "à alors au aussi autre aux avec avez avons bien bonjour c'est ce ces cette comme d'un d'une dans de "
        "des donc du elle elles en est et était être fait il ils j'ai je la le les leur lui mais me même merci "
        "mes moi mon ne nous on ont ou où par pas plus pour qu'il quand que qui sa sans se ses si son sont "
        "suis sur très tu un une vous",
        "es": "a al algo como con cuando de del desde donde dos el él ella ellos en entre era es esa ese esta está "
        "este esto fue gracias ha hace hasta hay hola la las le lo los más me mi mucho muy nada ni no nos o "
        "otra para pero poco por porque que qué se ser si sí sin sobre son su sus también te tiene todo tu un "
        "una uno y ya yo",
        "it": "a ai al alla anche ne poi sopra c'è che chi ci ciao come con cosa da dal dalla degli dei del della "
        "delle di dove e è era essere fa gli grazie ha hanno ho i il in io l' la le lei lo loro ma mi molto "
        "nei nel nella non o ogni per perché più quando quello questa questo se si sia sono su sua sul tra "
        "tutti tutto un una uno",
        "pt": "a à ao aos as até com como da das de depois do dos e é ela ele em entre era essa esse está eu foi há "
        "isso já lhe mais mas me mesmo meu minha muito na não nas nem no nos o obrigado olá ou para pela pelo "
        "por porque quando que quem se sem ser seu são sua também tem um uma você",
        "nl": "aan al alles als bij daar dan dat de der deze die dit doch doen door dus een en er ge geen had hallo "
        "heb hebben heeft het hier hij hoe ik in is ja je kan maar me meer men met mijn moet na naar niet "
        "niets nog nu of om omdat ons ook op over te tot uit van veel voor was wat werd wie wij wil worden zal "
        "ze zich zij zijn zo zou",
        "pl": "a aby ale bardzo bez był była być co czy dla do dzień gdy go i ich ja jak jako je jego jej jest "
        "jeszcze już kiedy która który które lub ma mi może na nad nie nich nim o od po pod przez przy są się "
        "tak także tego tej ten to tu tylko tym w we wszystko więc z za ze że żeby",
        "sv": "alla att av blev bli de dem den det din du där efter eller en ett från för han har hej henne hon hur "
        "här i icke inte jag kan man med men mig min mot mycket ni nu när och om oss på sig sin ska skulle som "
        "så till under upp ut vad var vara vi vid är även över",
        "ru": "а без бы был была были было быть в вам вас весь во вот все всё вы да для до его ее её если есть еще "
        "же за и из или им их к как ко когда кто ли меня мне может мы на не него нет но о об он она они от "
        "очень по при с со так также то только ты у уже что чтобы эта это этот я",
        "uk": "або але без був була були бути в вам вас ви від він вона вони все де для до є же з за і із їх його "
        "коли ми може на не немає ні про по при та так також те ти тому у це цей чи що щоб як який я",
    }.items()
}
ALL_STOP_WORDS: frozenset[str] = frozenset().union(*STOP_WORDS.values())


def words(text: str) -> list[str]:
    """Return the words of text in lower case; runs of Chinese and Japanese as overlapping pairs of characters."""
    found = _WORD.findall(text.lower().replace("’", "'"))
    return found if text.isascii() else [part for word in found for part in _parts(word)]


def _parts(word: str) -> list[str]:
    parts = []
    for run in [word] if word.isascii() else _UNSPACED_RUN.findall(word):
        pairs = [run[at : at + 2] for at in range(len(run) - 1)] if is_unspaced(run) else []
        parts.extend(pairs or [run])
    return parts


def is_unspaced(word: str) -> bool:
    """Whether a word of `words` comes from a script that is written without spaces."""
    return "぀" <= word[:1] <= "鿿" or "豈" <= word[:1] <= "﫿"


def storable(text: str) -> str:
    """Replace what neither PostgreSQL nor UTF-8 can hold: NUL and lone surrogates."""
    return _UNSTORABLE.sub("\ufffd", text)


def split_sentences(text: str) -> list[str]:
    """Split text at the ends of its sentences and paragraphs; white space inside becomes single spaces."""
    found: list[list[str]] = []
    continues = False
    for piece in _SENTENCE_END.split(storable(text)):
        sentence = " ".join(piece.split())
        if not sentence:
            continue
        if continues:
            found[-1].append(sentence)
        else:
            found.append([sentence])
        last = sentence.rpartition(" ")[2].lstrip("(\"'").rstrip(".").lower()
        # Beside abbreviations: initials ("John F. Kennedy") and German days ("am 3. Mai").
        is_short = len(last) == 1 or (len(last) == 2 and last.isdigit())
        continues = sentence.endswith(".") and (is_short or last in _ABBREVIATIONS)
    return [" ".join(parts) for parts in found]
