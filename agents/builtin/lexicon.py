"""Word lists of the text analysis: feelings, and the parts that names are made of."""

from agents.builtin.words import word_set

# Sentiment in English, German, French and Spanish. Words that mean something else in another of these are left out.
STRONGLY_POSITIVE = word_set(
    "amazing awesome brilliant excellent fantastic love loved loves outstanding perfect wonderful superb delighted "
    "ausgezeichnet begeistert fantastisch großartig hervorragend liebe perfekt wunderbar toll adore excellente "
    "génial magnifique merveilleux parfait formidable excelente encanta fantástico maravilloso perfecto"
)
POSITIVE = word_set(
    "agree beautiful best better clean clear comfortable easy enjoy enjoyed fast friendly glad good great happy "
    "helpful impressed improved like liked nice pleasant pleased recommend reliable satisfied smooth success "
    "successful thank thanks useful works angenehm besser beste danke einfach empfehle empfehlen erfolg erfolgreich "
    "freue freundlich froh gefällt glücklich gut gute guten guter gutes hilfreich nützlich schön schöne schöner "
    "schönes schnell zufrieden zuverlässig agréable aime bon bonne bons content contente efficace facile heureux "
    "heureuse joli jolie meilleur merci rapide recommande réussi satisfait utile agradable alegre bien buena buenas "
    "bueno buenos contento feliz fácil gracias gusta mejor rápido recomiendo útil"
)
NEGATIVE = word_set(
    "annoying bad boring broken bug bugs complain confusing crash crashes crashed dirty disappointed disappointing "
    "error errors expensive fail failed fails failure frustrating hard lost mistake poor problem problems rude sad "
    "slow unfortunately unhappy unreliable upset useless wrong ärgerlich enttäuscht enttäuschend falsch fehler "
    "kaputt langsam langsame langweilig leider mangelhaft problem probleme schlecht schlechte schlechter schlechtes "
    "schwierig teuer traurig unfreundlich unzufrieden cassé cher déçu déçue décevant difficile erreur lent lente "
    "malheureux mauvais mauvaise nul problème problèmes triste aburrido decepcionado difícil lento lenta mala malas "
    "malo malos problema problemas roto triste"
)
STRONGLY_NEGATIVE = word_set(
    "abysmal angry awful disaster disgusting hate hated hates horrible pathetic terrible worst "
    "furchtbar grauenhaft hasse katastrophal katastrophe schrecklich unverschämt "
    "affreux déteste catastrophe inacceptable désastre horrible odio terrible peor pésimo pésima desastre"
)
NEGATIONS = word_set(
    "not no never neither nor without hardly cannot don't doesn't didn't isn't wasn't aren't weren't can't won't "
    "couldn't wouldn't shouldn't nicht kein keine keinen keiner nie niemals ohne pas jamais sans aucun nunca sin "
    "tampoco"
)
# Negations that may follow what they deny: "das gefällt mir nicht", "je n'aime pas".
TRAILING_NEGATIONS = word_set("nicht pas")
INTENSIFIERS = word_set("very really extremely so absolutely sehr wirklich äußerst total très vraiment muy realmente")

TITLES = word_set(
    "mr mrs ms miss dr prof professor sir lady president minister chancellor herr frau madame monsieur mme señor "
    "señora präsident präsidentin kanzler kanzlerin"
)
FIRST_NAMES = word_set(
    "adam alan albert alex alexander alice ana andrea andrew angela anna anne anthony barbara benjamin bob brian "
    "carlos carol charles charlotte chris christian christine claire claudia daniel david diana edward elena "
    "elizabeth emily emma eric eva felix frank friedrich george giovanni grace hannah hans heinrich helen henry ian "
    "isaac isabel jack jacques james jan jane javier jean jennifer jessica johann john jorge josé joseph juan julia "
    "karen karl kate katharina kevin klaus laura lars leo linda lisa louis lucas luis lukas marco maria marie marta "
    "martin mary matthew max michael michel miguel monika nicole nina olga olivia oliver patrick paul paula pedro "
    "peter philip pierre rachel richard robert rosa ruth samuel sandra sarah sofia sophie stefan stephen steve susan "
    "thomas tim tom ursula victor vladimir werner william wolfgang"
)
ORGANISATION_WORDS = word_set(
    "inc ltd llc corp corporation company gmbh ag kg plc bank university universität université universidad "
    "institute institut college school hospital ministry ministerium ministère commission parliament foundation "
    "stiftung committee council agency association verein group holdings union party club museum nations labs sa"
)
PLACES = word_set(
    "africa america argentina asia athens australia austria barcelona beijing belgium berlin boston brazil brussels "
    "bulgaria california canada chicago chile china colombia copenhagen croatia cuba deutschland denmark dublin "
    "egypt england españa europa europe finland florida frankfurt france frankreich geneva germany greece hamburg "
    "hungary iceland india indonesia iran ireland israel istanbul italy japan kenya köln kyiv leipzig lisbon london "
    "luxembourg lyon madrid marseille mexico milan morocco moscow munich münchen netherlands nigeria norway oslo "
    "paris peru poland portugal prague rome russia schweiz scotland seoul singapore spain stockholm sweden "
    "switzerland sydney texas tokyo toronto turkey ukraine vienna wales warsaw washington wien zurich zürich "
    "österreich"
) | {"new york", "new zealand", "los angeles", "san francisco", "south africa", "united kingdom", "united states"}
PLACE_PREPOSITIONS = word_set("in near à en")
NAME_PARTICLES = word_set("of von van de der del di da la le du")
MONTHS = word_set(
    "january february march april may june july august september october november december "
    "januar februar märz mai juni juli oktober dezember "
    "janvier février mars avril juin juillet août septembre octobre novembre décembre "
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"
)
WEEKDAYS = word_set(
    "monday tuesday wednesday thursday friday saturday sunday montag dienstag mittwoch donnerstag freitag samstag "
    "sonntag lundi mardi mercredi jeudi vendredi samedi dimanche lunes martes miércoles jueves viernes sábado domingo"
)
